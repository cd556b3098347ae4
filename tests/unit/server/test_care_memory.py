"""Nothing of a patient stays in the server's memory when its consent is over, whether somebody looks or not."""

import gc
from collections import Counter, deque

import pytest
from hospital_rig import Rig, ward

from qepa_server.care.explained import STALE_MS as EXPLAINED_STALE_MS
from qepa_server.care.waves import STALE_MS as WAVE_STALE_MS
from qepa_server.care.waves import WATCH_S
from qepa_uplink.beat_reasons import PLAYERS
from qepa_uplink.bedside_models import NUMBERS
from qepa_uplink.enrolment import RETIREMENT_CONTEXT, RetirementRequest, SignedRetirement
from qepa_uplink.messages import LEAD_LENGTH, CareRecord, ExplainedBeat, Findings, WaveRecord
from qepa_uplink.readings import HYPOGLYCAEMIA_AHEAD
from qepa_wire.keys import care_key
from qepa_wire.measures import HEART_RATE
from qepa_wire.payloads import WAVE_ECG, Care, Wave, encode_care, encode_wave

CONSENT, RENEWED = bytes(range(16)), bytes(16)
END_S = 60
CONTAINERS = (dict, list, tuple, set, deque)


def held(hospital) -> Counter:
    """Care records, findings, beats and waveforms that can be reached from the hospital, wherever they are."""
    found: Counter = Counter()
    seen, todo = {id(hospital)}, [hospital]
    while todo:
        each = todo.pop()
        if isinstance(each, (Care, Findings, ExplainedBeat, Wave)):
            found[type(each)] += 1
        for inner in gc.get_referents(each):
            ours = type(inner).__module__.startswith("qepa_server") or isinstance(
                inner, (*CONTAINERS, Findings, ExplainedBeat)
            )
            if id(inner) not in seen and ours:
                seen.add(id(inner))
                todo.append(inner)
    return found


@pytest.fixture
def rig(tmp_path):
    rig = Rig(tmp_path, ward(2, 3))
    rig.connect()
    rig.hospital.consents.accept(rig.consent(board_of(rig), CONSENT, end_s=END_S))
    rig.hospital.waves.watch(board_of(rig).number)
    rig.pump()
    return rig


def board_of(rig):
    return next(iter(rig.gateways["gw-1"].boards.values()))


def send_each_kind(rig, seq=1, consent_id=CONSENT):
    board, key = board_of(rig), care_key(board_of(rig).end_key, consent_id)
    care = Care(1000 * seq, 1, 0, 0, seq, 1, ((HEART_RATE, 95, 70 + seq),))
    wave = Wave(WAVE_ECG, 1, 4, 1, 4 * seq, (), bytes(8))
    under = {"board": board.number, "consent_id": consent_id, "boots": 1, "t_ms": seq, "received_ms": rig.now}
    sealed = {"board": board.number, "seq": seq, "received_ms": rig.now}
    for message in (
        CareRecord(**sealed, payload=encode_care(key, consent_id, board.number, seq, care)),
        WaveRecord(**sealed, payload=encode_wave(key, consent_id, board.number, seq, wave)),
        Findings(**under, model="glucose-30", version=1, readings=((HYPOGLYCAEMIA_AHEAD, 90, 1),)),
        ExplainedBeat(
            **under,
            model="ecg-beats",
            version=3,
            answer="V",
            probabilities=(55, 10, 930, 5),
            shares=(875, *(0 for _ in PLAYERS[1:])),
            numbers=(0,) * len(NUMBERS),
            beat=bytes(LEAD_LENGTH),
            usual=bytes(LEAD_LENGTH),
        ),
    ):
        rig.gateways["gw-1"].seal(message)
    rig.pump()
    assert not rig.hospital.refused


def withdrawn(rig):
    rig.hospital.consents.withdraw(rig.withdrawal(CONSENT))


def run_out(rig):
    rig.now += 1000 * END_S
    rig.hospital.tick()


def moved(rig):
    board_of(rig).end_key = bytes(32)
    rig.enrol(board_of(rig), "gw-2")
    rig.now += 1000
    rig.hospital.tick()


def retired(rig):
    board, dock = board_of(rig), rig.identities["dock"]
    request = RetirementRequest(board=board.number, patient=board.patient, gateway="gw-1", nonce=bytes(16))
    body = request.model_dump_json().encode()
    signature = dock.sign(body, RETIREMENT_CONTEXT)
    rig.hospital.retirement.retire(SignedRetirement(body=body, certificate=dock.certificate, signature=signature))
    rig.now += 1000
    rig.hospital.tick()


@pytest.mark.parametrize("end", [withdrawn, run_out, moved, retired])
def test_it_goes_with_the_consent_though_nobody_reads(rig, end):
    send_each_kind(rig)
    assert held(rig.hospital).keys() == {Care, Findings, ExplainedBeat, Wave}
    assert rig.hospital.alarms.lasting("glucose_low_soon")
    end(rig)
    assert not held(rig.hospital)
    assert not rig.hospital.alarms.lasting("glucose_low_soon")


def test_waveforms_go_when_nobody_looks_any_more_and_beats_when_they_are_old(rig):
    rig.hospital.consents.accept(rig.consent(board_of(rig), RENEWED, end_s=10_000))
    send_each_kind(rig, consent_id=RENEWED)
    rig.now += WAVE_STALE_MS + 1
    rig.hospital.tick()
    assert held(rig.hospital)[Wave] == 0  # no newer one came
    rig.hospital.waves.watch(board_of(rig).number)
    rig.now += 1000 * (WATCH_S - 1)
    send_each_kind(rig, 2, consent_id=RENEWED)
    assert held(rig.hospital)[Wave] == 1
    rig.now += 1000
    rig.hospital.tick()
    assert held(rig.hospital).keys() == {Care, Findings, ExplainedBeat}
    rig.now += EXPLAINED_STALE_MS
    rig.hospital.tick()
    assert held(rig.hospital).keys() == {Care, Findings}


def test_a_renewed_consent_shows_what_came_under_it_alone(rig):
    board = board_of(rig)

    def shown():
        of = next(b for b in rig.state()["boards"] if b["board"] == f"{board.number:08x}")
        hr_bpm = None if of["vitals"] is None else of["vitals"]["hr_bpm"]
        waves = rig.hospital.waves.since(board.number, 0)
        return hr_bpm, len(of["findings"]), of["explained"] is not None, [wave.wave.first for wave in waves]

    rig.hospital.consents.accept(rig.consent(board, RENEWED))
    send_each_kind(rig)
    assert shown() == (71, 1, True, [4])
    withdrawn(rig)
    assert shown() == (None, 0, False, [])  # for a second
    rig.now += 1000
    send_each_kind(rig, 2, consent_id=RENEWED)
    assert shown() == (72, 1, True, [8])
