"""Whether the reasons that a gateway gives of a live beat carry its answer: what happens without the strongest one.

A player is given back to the patient's usual beat (qepa_gateway/inference/reasons.py), and the model is asked again.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qepa_gateway.inference.reasons import EVERYBODY, Inputs, coalitions, explain
from qepa_gateway.inference.runtime import Int8Model
from qepa_gateway.inference.windows import BeatWindows
from qepa_tools.benchmarks.timing import median_s
from qepa_tools.evaluation.cohort import Case, Track
from qepa_tools.recordings.bidmc import SAME_PATIENT, bidmc_numbers, load_bidmc
from qepa_tools.recordings.board_beats import FeatureCache
from qepa_tools.recordings.recording import AAMI_CLASSES, Recording
from qepa_uplink.beat_reasons import PLAYERS, RHYTHM_PLAYERS

Place = tuple[Case, int]  # a beat of ``case.beats``
SignalOf = Callable[[Case], NDArray[np.float32]]  # cleaned leads in columns

_DRAWS = 2000
_BIDMC_HZ = 250  # of what a board's ADC makes of the set's lead


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveBeat:
    """A beat as the gateway has it when it explains it, and what the patient's usual one is by then."""

    person: str
    beat: Inputs
    usual: Inputs


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One explained beat. shares [PLAYERS]. ends [PLAYERS]: whether giving that player back ends the answer."""

    person: str
    shares: NDArray[np.float64]
    ends: NDArray[np.bool_]
    base: float

    @property
    def strongest(self) -> int:
        """The player that speaks most for the answer."""
        return int(self.shares.argmax())

    @property
    def weakest(self) -> int:
        """The player that speaks least for or against it."""
        return int(np.abs(self.shares).argmin())

    @property
    def part(self) -> str:
        """What is strongest where the three players of the rhythm are one."""
        parts: dict[str, float] = defaultdict(float)
        for name, share in zip(PLAYERS, self.shares, strict=True):
            parts["RR" if name in RHYTHM_PLAYERS else name] += float(share)
        return max(parts, key=lambda name: parts[name])


def live_beats(places: Mapping[str, Sequence[Place]], signal_of: SignalOf) -> dict[str, list[LiveBeat]]:
    """Read records again up to the last of these places, which have names; those before a usual beat are left out."""
    wanted: dict[str, dict[int, str]] = defaultdict(dict)
    cases = {}
    for name, each in places.items():
        for case, place in each:
            cases[case.recording.id] = case
            wanted[case.recording.id][place] = name
    found: dict[str, list[LiveBeat]] = {name: [] for name in places}
    for record, names in wanted.items():
        case, windows = cases[record], BeatWindows(cases[record].recording.fs_hz)
        signal, peaks = signal_of(case), [int(sample) for sample in case.beats.samples]
        for k, peak in enumerate(peaks[: max(names) + 1]):
            before, after = (peaks[n] if 0 <= n < len(peaks) else None for n in (k - 1, k + 1))
            beat = windows.read(signal, 0, peak, before, after)
            if k in names and beat is not None and windows.is_settled:
                found[names[k]].append(LiveBeat(person=case.person, beat=beat, usual=windows.usual()))
    return found


def judge(network: Int8Model, beats: Sequence[LiveBeat], answer: int) -> list[Judged]:
    """Explain those that the model gives this answer, and ask it again without each player."""
    without = EVERYBODY ^ (1 << np.arange(len(PLAYERS)))
    judged = []
    for each in beats:
        outputs = network.run_rows(*coalitions(each.beat, each.usual))
        if int(outputs[EVERYBODY].argmax()) == answer:
            why = explain(network.run_rows, each.beat, each.usual, answer)
            ends = outputs[without].argmax(axis=1) != answer
            judged.append(Judged(person=each.person, shares=why.shares, ends=ends, base=why.base))
    return judged


def live_rows(
    name: str, network: Int8Model, beats: Mapping[str, Sequence[LiveBeat]], shown: Mapping[str, Sequence[str]]
) -> list[list[str]]:
    """Rows of the table, two a class. beats: by the class they get. shown: by class, parts that may be strongest."""
    rows = []
    for class_, each in beats.items():
        judged = judge(network, each, AAMI_CLASSES.index(class_))
        if not judged:
            continue
        n, persons = len(judged), [one.person for one in judged]
        parts = [one.part for one in judged]
        strongest = share_by_persons(np.array([one.ends[one.strongest] for one in judged], float), persons)
        any_one = 100 * float(np.mean([one.ends.mean() for one in judged]))
        weakest = 100 * float(np.mean([one.ends[one.weakest] for one in judged]))
        so_itself = sum(one.base >= 0 for one in judged)
        rows += [
            [
                f"{name}, called {class_}, {n} beats of {len(set(persons))} people: strongest is; usual beat not N",
                ", ".join(f"{part} {100 * parts.count(part) / n:.0f} %" for part in shown[class_])
                + f"; {100 * so_itself / n:.0f} %",
            ],
            [
                f"{name}, {class_} ends without the strongest; any; the weakest player",
                f"{strongest[0]:.0f} % ({strongest[1]:.0f} to {strongest[2]:.0f}); {any_one:.0f} %; {weakest:.0f} %",
            ],
        ]
    return rows


def explain_s(network: Int8Model, beat: LiveBeat) -> float:
    """CPU seconds of one explanation."""
    answer = int(network.run(*beat.beat).argmax())
    return median_s(lambda: explain(network.run_rows, beat.beat, beat.usual, answer))


def share_by_persons(values: NDArray[np.float64], persons: Sequence[str], seed: int = 1) -> tuple[float, float, float]:
    """Mean of values, one a beat, in percent, and its 95 % interval when persons are drawn with replacement."""
    who, place = np.unique(persons, return_inverse=True)
    sums, counts = np.bincount(place, values), np.bincount(place)
    drawn = np.random.default_rng(seed).integers(0, len(who), (_DRAWS, len(who)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return 100 * float(values.mean()), 100 * float(low), 100 * float(high)


def bidmc_cases(directory: Path, cache: FeatureCache, track: Track) -> list[Case]:
    """People in intensive care with one lead and no labels of beats, whom the model that ships has never seen."""
    cases = []
    for name in track([str(number) for number in bidmc_numbers(directory)], "Beats of bidmc"):
        record = load_bidmc(directory, int(name))
        samples = ((record.ecg_counts().astype(np.int32) + 2048) << 4).astype(np.uint16)
        person = next((group[0] for group in SAME_PATIENT if record.number in group), record.number)
        recording = Recording(id=record.name, person=f"bidmc_{person:02}", fs_hz=_BIDMC_HZ, samples=samples, labels=())
        cases.append(Case(recording, cache.beats(recording, recording.duration_s)))
    return cases
