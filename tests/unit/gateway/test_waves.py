"""Waveforms come under a consent alone, stay in memory for seconds, and what is missing stays missing."""

import numpy as np
import pytest
from bedside_rig import Rig

from qepa_gateway.waves import ASKED_S, KEPT_S
from qepa_uplink.messages import CareRevoke, WaveWatch
from qepa_wire import frame, keys, payloads
from qepa_wire.payloads import WAVE_ACCEL, WAVE_ECG, Wave

FS_HZ = 200


@pytest.fixture
def ward(tmp_path):
    """A ward whose board 1 streams care records; somebody wants waveforms."""
    rig = Rig(tmp_path, patients=3).begin()
    rig.server.send_sealed("gw-1", rig.server.grant(rig.boards[1]))
    rig.settle(4)
    streams(rig).wanted = True
    say(rig, rig.boards[1].care())
    rig.pump()
    return rig


def streams(rig):
    return rig.site.gateway.waves


def say(rig, data):
    rig.up(rig.boards[1], data)
    rig.pump()


def second(number, *, channel=WAVE_ECG, axes=1, fs_hz=FS_HZ, boots=1, peaks=(), value=None):
    """The wave of a whole second, each sample its own number unless ``value`` is given."""
    first = number * fs_hz
    samples = np.arange(first * axes, (first + fs_hz) * axes) if value is None else np.full(fs_hz * axes, value)
    return Wave(channel, axes, fs_hz, boots, first, peaks, samples.astype("<i2").tobytes())


def sealed(board, wave):
    payload = payloads.encode_wave(board.care_key, board.consent_id, board.number, board.seq + 1, wave)
    return board.frame(frame.WAVE, payload)


def send(rig, *waves):
    for wave in waves:
        say(rig, sealed(rig.boards[1], wave))
    rig.pump()


def asked(rig, number=1):
    return [
        payloads.decode_waves_wanted(p)[1] for type_, p in rig.boards[number].received if type_ == frame.WAVES_WANTED
    ]


def window(rig, seconds=KEPT_S, channel=WAVE_ECG):
    return streams(rig).window(1, channel, seconds)


def test_only_boards_that_stream_under_a_consent_are_asked(ward):
    assert asked(ward) == [ASKED_S]
    assert asked(ward, 2) == asked(ward, 3) == []


def test_samples_come_back_by_number(ward):
    heard = []
    streams(ward).on_wave(lambda board, wave: heard.append((board, wave.first)))
    send(ward, second(5, peaks=(880, 1100)), second(6, peaks=(1300,)))
    samples, fs_hz, first = window(ward)
    assert (fs_hz, first, samples.dtype, samples.shape) == (FS_HZ, 1000, np.float32, (400, 1))
    assert samples[:, 0].tolist() == list(range(1000, 1400))
    assert streams(ward).peaks(1) == (880, 1100, 1300)
    assert heard == [(1, 1000), (1, 1200)]
    samples, _, first = window(ward, 0.5)
    assert (first, samples[:, 0].tolist()) == (1300, list(range(1300, 1400)))
    assert not ward.site.refused


def test_channels_do_not_mix(ward):
    send(ward, second(0, value=7), second(0, channel=WAVE_ACCEL, axes=3, fs_hz=104))
    ecg, moves = window(ward)[0], window(ward, channel=WAVE_ACCEL)[0]
    assert ecg.shape == (200, 1)
    assert moves[:2].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert streams(ward).window(2, WAVE_ECG, 5) is None


def test_the_last_seconds_stay_and_no_more(ward):
    send(ward, *(second(i, value=i, peaks=(i * FS_HZ,)) for i in range(20)))
    samples, _, first = window(ward, 100)
    assert first == (20 - KEPT_S) * FS_HZ
    assert samples[::FS_HZ, 0].tolist() == list(range(20 - KEPT_S, 20))
    assert streams(ward).peaks(1) == tuple(i * FS_HZ for i in range(20 - KEPT_S, 20))


@pytest.mark.parametrize("lost", [1, 3, 11, 12, 500])
def test_what_did_not_come_is_nan(ward, lost):
    send(ward, second(0), second(1), second(2 + lost))
    samples, _, first = window(ward)
    missing = np.isnan(samples[:, 0])
    here = samples[~missing, 0].astype(int)
    numbers = first + np.flatnonzero(~missing)
    assert (here == numbers.astype(np.int16)).all()
    assert {int(n) // FS_HZ for n in numbers} == {i for i in (0, 1, 2 + lost) if i > 2 + lost - KEPT_S}
    assert missing.sum() == len(samples) - len(here)


def test_a_replay_is_taken_once_and_never_acknowledged(ward):
    board = ward.boards[1]
    heard = []
    streams(ward).on_wave(lambda _, wave: heard.append(wave.first))
    data = sealed(board, second(3))
    for _ in range(3):
        say(ward, data)
    ward.pump()
    acknowledged = [p for type_, p in board.received if type_ == frame.ACK]
    assert heard == [600]
    assert all(board.seq not in payloads.decode_ack(payload) for payload in acknowledged)
    ward.site.crash()
    ward.site.start()
    say(ward, data)
    assert window(ward) is None


def test_what_was_held_back_on_the_way_is_not_shown_as_the_present(ward):
    held_back = sealed(ward.boards[1], second(3))
    send(ward, second(4))
    say(ward, held_back)
    assert window(ward)[2] == 800
    assert ward.site.refused == {"late": 1}


def test_numbers_that_begin_anew_are_no_replay(ward):
    last = 2**32 - 100
    before = Wave(WAVE_ECG, 1, FS_HZ, 1, last, (), bytes(200))
    send(ward, before, second(0))
    assert window(ward)[2] == 0
    send(ward, before)
    assert ward.site.refused == {"late": 1}


def test_a_wave_of_another_boot_is_refused_and_a_reboot_begins_anew(ward):
    send(ward, second(30))
    send(ward, second(31, boots=2))
    assert ward.site.refused == {"boots": 1}
    board = ward.boards[1]
    board.boot()
    ward.settle()
    say(ward, board.care())
    send(ward, second(0, boots=2))
    assert window(ward)[2] == 0


def test_a_new_key_epoch_costs_no_sample(ward):
    board = ward.boards[1]
    send(ward, second(0))
    say(ward, board.rekey(pad=False))
    send(ward, second(1))
    assert not np.isnan(window(ward)[0]).any()
    assert len(window(ward)[0]) == 400


def test_a_window_that_nothing_feeds_any_more_is_none(ward):
    send(ward, second(0, peaks=(9,)))
    ward.now_ms += 1000 * KEPT_S + 1
    assert window(ward) is None
    assert streams(ward).peaks(1) == ()


def test_a_withdrawal_takes_everything_along(ward):
    board = ward.boards[1]
    send(ward, second(0))
    key = board.care_key
    ward.server.broadcast(CareRevoke(consent_id=board.consent_id))
    ward.settle(3)
    assert window(ward) is None
    assert streams(ward)._rings == {}
    board.care_key = key  # it goes on all the same
    send(ward, second(1))
    assert window(ward) is None
    assert ward.site.refused == {"consent": 1}


def test_without_a_consent_nothing_is_taken(ward):
    other = ward.boards[2]
    other.consent_id, other.care_key = bytes(16), keys.care_key(other.end_key, bytes(16))
    ward.up(other, sealed(other, second(0)))
    ward.pump()
    assert streams(ward).window(2, WAVE_ECG, 5) is None
    assert ward.site.refused == {"consent": 1}


@pytest.mark.parametrize("garbage", [b"", bytes(31), bytes(60), b"\xff" * 900], ids=len)
def test_garbage_is_refused_and_counted(ward, garbage):
    consent = ward.boards[1].consent_id
    say(ward, ward.boards[1].frame(frame.WAVE, garbage and consent + garbage[16:]))
    assert sum(ward.site.refused.values()) == 1
    assert window(ward) is None


def test_a_care_record_is_no_wave(ward):
    board = ward.boards[1]
    record = payloads.encode_care(
        board.care_key, board.consent_id, 1, board.seq + 1, payloads.Care(0, 1, 0, 0, 0, 0, ())
    )
    say(ward, board.frame(frame.WAVE, record))
    assert ward.site.refused == {"mac": 1}


def test_boards_are_asked_again_in_time_and_when_they_fall_silent(ward):
    for number in range(70):
        ward.advance(1000)
        send(ward, second(number))
    assert asked(ward) == [ASKED_S] * 2
    ward.advance(30_000)
    assert 4 <= len(asked(ward)) <= 9


def test_who_wants_no_more_says_so_once(ward):
    send(ward, second(0))
    streams(ward).wanted = False
    ward.advance(30_000)
    assert asked(ward) == [ASKED_S, 0]
    assert window(ward) is None


def test_waves_never_take_the_place_of_what_waits_for_a_key(ward, monkeypatch):
    board = ward.boards[1]
    with monkeypatch.context() as slow_kme:
        slow_kme.setattr(ward.site.gateway, "take_key_requests", list)
        say(ward, board.rekey())
        send(ward, *(second(i) for i in range(40)))
        say(ward, board.alert())
    ward.settle(4)
    assert ward.server.alerts
    assert ward.site.refused["unknown_epoch"] == 40


def look(rig, seconds, board=1):
    rig.server.send_sealed("gw-1", WaveWatch(board=board, seconds=seconds))
    rig.settle(2)


def test_the_server_gets_the_ecg_as_it_came_while_somebody_looks(ward):
    streams(ward).wanted = False
    look(ward, 30)
    assert asked(ward)[-1] == ASKED_S
    send(ward, second(0))
    (record,) = ward.server.waves
    assert payloads.decode_wave(ward.boards[1].care_key, 1, record.seq, record.payload) == second(0)
    send(ward, second(0, channel=WAVE_ACCEL, axes=3, fs_hz=104))
    ward.advance(31_000)
    send(ward, second(1))
    assert len(ward.server.waves) == 1
    assert asked(ward)[-1] == 0


def test_nothing_is_passed_on_while_nobody_looks(ward):
    send(ward, second(0))
    look(ward, 30)
    look(ward, 0)
    send(ward, second(1))
    assert window(ward) is not None
    assert ward.server.waves == []


def test_nobody_looks_at_a_board_without_a_consent(ward):
    look(ward, 30, board=2)
    assert ward.site.refused == {"consent": 1}
    look(ward, 30, board=77)
    assert ward.site.refused == {"consent": 1, "unknown_board": 1}
    ward.server.broadcast(CareRevoke(consent_id=ward.boards[1].consent_id))
    ward.settle(3)
    assert not streams(ward)._is_watched(1)
