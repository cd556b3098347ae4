"""Features of beats: what a rhythm makes of them, whatever the signal."""

from array import array

from hypothesis import given, settings
from hypothesis import strategies as st

from qepa_board.learning.features import LIMIT, N_FEATURES, NAMES, ONE, BeatFeatures
from qepa_board.signals.dsp import EcgFilter
from qepa_board.signals.ecg import EcgPipeline
from qepa_tools.recordings.recording import counts_from_adc
from qepa_tools.recordings.synthetic import synthetic_recording

FS_HZ = 360


class Ecg:
    """The filter's ring with a QRS and, where told, a P wave at each beat; a V beat is upside down and wide."""

    def __init__(self) -> None:
        self._filter = EcgFilter(FS_HZ, 60)
        self.features = BeatFeatures(self._filter)
        self._at = 0

    def beat(self, rr: int, kind: str = "N", rr_post: int | None = None) -> dict[str, int]:
        """Features of a beat `rr` samples after the last; kind: N, V or n (without a P wave). rr 0: none was before."""
        ring = self._filter.clean
        self._at += rr or FS_HZ
        r_index = self._at
        start = self._filter.clean_delay + r_index
        for k in range(-100, 150):
            ring[(start + k) % len(ring)] = 0
        width, height = (22, -1600) if kind == "V" else (9, 1500)
        for k in range(-width, width + 1):
            ring[(start + k) % len(ring)] = height * (width - abs(k)) // width
        if kind == "N":
            for k in range(-12, 13):
                ring[(start - 58 + k) % len(ring)] = 15 * (12 - abs(k))
        out = array("h", bytes(2 * N_FEATURES))
        self.features.measure(r_index, rr, rr if rr_post is None else rr_post, out)
        return dict(zip(NAMES, out, strict=True))

    def rhythm(self, intervals: list[int], kind: str = "N") -> dict[str, int]:
        """Features of the last of these beats."""
        found: dict[str, int] = {}
        for rr in intervals:
            found = self.beat(rr, kind)
        return found


def test_a_usual_beat_is_near_zero_everywhere() -> None:
    assert {name: value for name, value in Ecg().rhythm([300] * 40).items() if abs(value) > 8} == {}


def test_an_early_beat_counts_in_a_steady_rhythm_and_not_in_fibrillation() -> None:
    steady, wild = Ecg(), Ecg()
    steady.rhythm([300] * 60)
    wild.rhythm([200, 330, 260, 420] * 15)
    early, lost = steady.beat(200, rr_post=400), wild.beat(200, rr_post=400)
    for name in ("premature", "early", "early_like"):
        assert early[name] > 100
        assert lost[name] == 0
    assert early["irregular"] == 0
    assert lost["irregular"] > 128
    for name in ("rr_pre_local", "rr_pre_global", "rr_step"):
        assert abs(lost[name]) < abs(early[name]) / 2


def test_a_fast_run_of_thirty_beats_stays_early_to_its_end() -> None:
    ecg = Ecg()
    ecg.rhythm([300] * 150)
    run = [ecg.beat(200) for _ in range(30)]
    assert all(beat["early"] > 50 for beat in run[1:])
    assert all(beat["early_like"] > 25 for beat in run[1:])
    assert run[-1]["premature"] == 0


def test_an_interval_that_is_not_known_says_nothing() -> None:
    ecg = Ecg()
    ecg.rhythm([300] * 60)
    found = ecg.beat(0, rr_post=0)
    assert [found[name] for name in NAMES if name.startswith("rr_") or "early" in name.split("_")] == [0] * 7
    assert found["premature"] == found["premature_unlike"] == 0


def test_a_shape_is_early_as_its_beats_mostly_are() -> None:
    ecg = Ecg()
    for _ in range(20):
        ecg.rhythm([300] * 5)
        ectopic = ecg.beat(180, "V")
        normal = ecg.beat(420)
    assert ectopic["shape_early"] < -60
    assert ectopic["premature_unlike"] > 200
    assert normal["shape_early"] > -10
    in_time = ecg.beat(300, "V")
    assert in_time["shape_early"] < -60


def test_what_a_patient_always_has_is_not_told_again() -> None:
    """Another QRS in every second beat: V stands out at first, then less; so does a P wave that is mostly missing."""
    ecg = Ecg()
    ecg.rhythm([300] * 40)
    first = ecg.beat(300, "V")
    for _ in range(150):
        ecg.beat(300)
        later = ecg.beat(300, "V")
    assert first["turned"] > 100
    assert later["turned"] < first["turned"] * 0.85
    ecg = Ecg()
    ecg.rhythm([300] * 40)
    missing = ecg.beat(300, "n")
    usual = ecg.rhythm([300] * 200, "n")
    assert missing["p_unlike"] > 60
    assert usual["p_unlike"] < missing["p_unlike"] / 2


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3000), st.sampled_from("NVn"), st.integers(0, 3000)), min_size=1, max_size=60))
def test_nothing_is_beyond_the_limit(beats: list[tuple[int, str, int]]) -> None:
    ecg = Ecg()
    for rr, kind, rr_post in beats:
        assert all(abs(value) <= LIMIT for value in ecg.beat(rr, kind, rr_post).values())


def test_novelty_and_irregularity_are_shares() -> None:
    recording = synthetic_recording(7, 0, 30)
    pipeline = EcgPipeline(recording.fs_hz)
    counts = array("h", counts_from_adc(recording.samples).tobytes())
    for start in range(0, len(counts) - 180, 180):
        pipeline.push(counts[start : start + 180], 180)
        for name in ("novelty", "irregular"):
            assert 0 <= pipeline.features[NAMES.index(name)] <= ONE
    assert pipeline.n_beats > 20
