"""From a beat called V to its reasons at the server and on the page: only under a consent, not too often, in words."""

import json
from collections import Counter

import numpy as np
import pytest
from bedside_rig import Rig
from hypothesis import given, settings
from hypothesis import strategies as st
from test_ecg_reader import FS_HZ, USABLE, FakeModel, FakeShelf, FakeWaves, play, seconds_of
from test_ecg_windows import heart

from qepa_gateway.bedside.state import EXPLAINED_STALE_MS, bedside_state
from qepa_gateway.inference.ecg import EXPLAINED_EVERY_S, EcgReader
from qepa_gateway.inference.service import Inference
from qepa_uplink.beat_reasons import PLAYERS
from qepa_uplink.bedside_models import ECG_BEATS, NUMBERS
from qepa_uplink.errors import UplinkError
from qepa_uplink.messages import LEAD_LENGTH, LEAD_STEPS, CareRevoke, ExplainedBeat
from qepa_uplink.session import Session
from qepa_wire import frame, payloads


class Rows(FakeModel):
    """V where the T wave hangs down, else N; ``answers`` instead, if there are any."""

    def __init__(self, answers=None):
        super().__init__(4, lambda leads, _: 2 if leads[0, 100:110, 0].min() < -0.1 or leads[0].min() < -0.4 else 0)
        self.rows, self.answers = 0, answers

    def run_rows(self, leads, numbers):
        self.rows += len(leads)
        if self.answers is not None:
            return self.answers(len(leads))
        return np.concatenate([self.run(leads[k : k + 1], numbers[k : k + 1]) for k in range(len(leads))])


def shelf_of(answers=None, quality=USABLE):
    shelf = FakeShelf(quality=quality)
    shelf.models[ECG_BEATS] = Rows(answers)
    return shelf


def with_inverted(samples, peaks):
    samples = samples.copy()
    for peak in peaks:
        samples[peak - 10 : peak + 30] *= -1
    return samples


@pytest.fixture
def rhythm():
    return heart(FS_HZ, [0.8], seconds=40)


def told_of(rhythm, inverted, shelf, *, boards=(7,)):
    """What a reader explains of boards with the same heart: (board, explanation), and its errors."""
    samples, peaks = rhythm
    waves, errors, told = FakeWaves(), Counter(), []
    reader = EcgReader(waves, shelf, errors, lambda board, why: told.append((board, why)))
    for wave in seconds_of(with_inverted(samples, inverted), peaks):
        for board in boards:
            waves.hear(board, wave)
        before = len(told)
        reader.work()
        assert len(told) - before <= 1
    return told, errors


def test_a_beat_called_v_is_explained_by_what_differs_from_the_usual_one(rhythm):
    _, peaks = rhythm
    shelf = shelf_of()
    ((board, why),), errors = told_of(rhythm, peaks[25:26], shelf)
    assert (board, why.model, why.version, why.boots, why.answer) == (7, ECG_BEATS, 3, 1, "V")
    assert why.t_ms == 1000 * peaks[25] // FS_HZ
    assert 0 < why.after_ms < 3000
    shares = dict(zip(PLAYERS, why.shares, strict=True))
    assert max(shares, key=shares.get) == "QRS"
    assert sum(why.shares) == pytest.approx(2000, abs=4)  # from N for certain to V for certain
    beat, usual = (np.frombuffer(lead, np.int8) / LEAD_STEPS for lead in (why.beat, why.usual))
    assert np.ptp(usual) == pytest.approx(1, abs=0.1)
    assert beat.min() < -0.4 < usual.min()
    assert shelf.models[ECG_BEATS].rows == 2 ** len(PLAYERS)
    assert not errors


def test_normal_beats_and_the_first_ones_are_not_explained(rhythm):
    _, peaks = rhythm
    assert told_of(rhythm, [], shelf_of()) == ([], {})
    assert told_of(rhythm, peaks[3:6], shelf_of())[0] == []  # what is usual is not known yet


def test_a_signal_that_is_not_usable_gives_no_explanation(rhythm):
    shelf = shelf_of(quality=1 - USABLE)
    assert told_of(rhythm, rhythm[1][20:], shelf)[0] == []
    assert shelf.models[ECG_BEATS].rows == 0


def test_of_one_board_a_beat_in_five_seconds_is_explained(rhythm):
    _, peaks = rhythm
    told, _ = told_of(rhythm, peaks[20:40:2], shelf_of())
    times = [why.t_ms for _, why in told]
    assert len(times) >= 2
    assert min(np.diff(times)) >= 1000 * EXPLAINED_EVERY_S
    assert max(np.diff(times)) <= 1000 * EXPLAINED_EVERY_S + 1600


def test_boards_with_the_same_heart_have_their_turns(rhythm):
    told, _ = told_of(rhythm, rhythm[1][18:44:2], shelf_of(), boards=(7, 8, 9))
    assert {board for board, _ in told} == {7, 8, 9}


@pytest.mark.parametrize(
    "answers", [lambda n: np.full((n, 4), np.nan), lambda n: np.eye(4)[[0] * n], lambda n: np.full((n, 3), 0.3)]
)
def test_a_model_that_answers_garbage_is_counted_and_the_beat_keeps_its_class(rhythm, answers):
    told, errors = told_of(rhythm, rhythm[1][25:26], shelf_of(answers))
    assert told == []
    assert errors == {ECG_BEATS: 1}
    _, reader = play((with_inverted(rhythm[0], rhythm[1][25:26]), rhythm[1]), shelf_of(answers))
    assert {code: value for finding in reader.findings(7) for code, _, value in finding.readings}[194] == 1


@pytest.fixture
def ward(tmp_path):
    """Board 1 streams ECG to a gateway whose models are played; every beat from the twentieth on is upside down."""
    rig = Rig(tmp_path, patients=3).begin()
    gateway = rig.site.gateway
    inference = gateway.inference = Inference(gateway.care, gateway.link, shelf_of(), lambda: rig.now_ms)
    inference.add([EcgReader(gateway.waves, inference.shelf, inference.errors, inference.explain)])
    gateway.waves.wanted = True
    rig.server.explained = []
    plain = rig.server._take_sealed

    def take(name, message):
        if isinstance(message, ExplainedBeat):
            rig.server.explained.append(message)
        else:
            plain(name, message)

    rig.server._take_sealed = take
    rig.server.send_sealed("gw-1", rig.server.grant(rig.boards[1]))
    rig.settle(4)
    say(rig, rig.boards[1].care())
    rig.care_keys = rig.boards[1].care_key, rig.boards[1].consent_id
    samples, peaks = heart(FS_HZ, [0.8], seconds=26)
    rig.waves = list(seconds_of(with_inverted(samples, peaks[20:]), peaks, boots=rig.boards[1].boots))
    return rig


def say(rig, data):
    rig.up(rig.boards[1], data)
    rig.pump()


def stream(rig, seconds):
    board = rig.boards[1]
    for _ in range(seconds):
        wave = rig.waves.pop(0)
        payload = payloads.encode_wave(*rig.care_keys, board.number, board.seq + 1, wave)
        say(rig, board.frame(frame.WAVE, payload))
        rig.advance(1000)


def shown(rig):
    return [board["explained"] for board in bedside_state(rig.site.gateway, rig.now_ms)["boards"]]


def test_an_explanation_reaches_the_server_at_once_and_the_page_in_words(ward):
    stream(ward, 16)
    assert not ward.server.explained
    assert shown(ward) == [None] * 3
    stream(ward, 6)
    (message,) = ward.server.explained
    assert (message.board, message.consent_id, message.answer) == (1, ward.boards[1].consent_id, "V")
    assert 1000 <= ward.now_ms - message.received_ms < 9000
    why, *others = shown(ward)
    assert others == [None, None]
    assert (why["beat"], why["source"]) == ("V", "model ecg-beats v3")
    assert why["words"].startswith("because: QRS")
    assert "of its height off this patient's usual" in why["words"]
    assert why["age_ms"] == ward.now_ms - message.received_ms
    json.dumps(why)


def test_an_old_explanation_and_one_whose_stream_is_gone_are_dashes(ward):
    stream(ward, 24)
    assert shown(ward)[0]["beat"] == "V"
    ward.advance(14_000)  # nothing more is heard
    assert (shown(ward)[0]["beat"], shown(ward)[0]["words"]) == (None, None)
    later = bedside_state(ward.site.gateway, ward.now_ms + EXPLAINED_STALE_MS)["boards"][0]["explained"]
    assert (later["beat"], later["words"]) == (None, None)
    assert later["age_ms"] > EXPLAINED_STALE_MS


def test_the_end_of_the_consent_ends_explanations_at_once(ward):
    stream(ward, 22)
    assert ward.server.explained
    reader = ward.site.gateway.inference._readers[0]
    ward.server.send("gw-1", CareRevoke(consent_id=ward.boards[1].consent_id))
    ward.pump()
    ward.server.explained.clear()
    assert shown(ward) == [None] * 3
    assert not ward.site.gateway.inference._explained
    assert not reader._hearts
    stream(ward, 4)
    assert not ward.server.explained


def test_without_a_consent_in_force_nothing_comes_of_an_explanation(ward, rhythm):
    ((_, why),), _ = told_of(rhythm, rhythm[1][25:26], shelf_of())
    inference = ward.site.gateway.inference
    inference.explain(2, why)
    inference.explain(99, why)
    ward.settle(2)
    assert not ward.server.explained
    assert inference.explained(2) is None
    inference.explain(1, why)
    ward.settle(2)
    assert [each.board for each in ward.server.explained] == [1]


def message_of(**changes):
    fields = {
        "board": 1, "consent_id": bytes(16), "boots": 1, "t_ms": 5, "received_ms": 6, "model": ECG_BEATS, "version": 1,
        "answer": "S", "probabilities": (100, 900, 0, 0), "shares": (0,) * len(PLAYERS),
        "numbers": (0,) * len(NUMBERS), "beat": bytes(range(128)), "usual": bytes(range(128, 256)),
    }  # fmt: skip
    return ExplainedBeat(**fields | changes)


SECRET = bytes(range(32))


class Raw:
    """A message of any JSON."""

    def __init__(self, text):
        self._text = text

    def model_dump_json(self):
        return self._text


def carried(message):
    return Session(SECRET, gateway_side=False).open(Session(SECRET, gateway_side=True).seal(message))


def test_a_message_arrives_as_it_was_sent():
    assert carried(message_of()) == message_of()
    assert len(message_of().beat) == LEAD_LENGTH


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=40) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=40,
)
in_range = st.integers(-4500, 4500)


@given(
    st.dictionaries(
        st.sampled_from(sorted(ExplainedBeat.model_fields)),
        json_values | st.lists(in_range, min_size=4, max_size=32) | st.sampled_from(["", "N", "F", "A" * 172]),
        max_size=3,
    )
)
@settings(max_examples=200, deadline=None)
def test_an_arbitrary_explained_beat_parses_or_raises_the_one_error(changes):
    text = json.dumps(json.loads(message_of().model_dump_json()) | changes)
    try:
        found = carried(Raw(text))
    except UplinkError as error:
        assert error.reason == "schema"  # noqa: PT017
        return
    if isinstance(found, ExplainedBeat):
        assert len(found.shares) == len(PLAYERS)
        assert all(abs(share) <= 2000 for share in found.shares)
        assert found.answer in "SVF"
