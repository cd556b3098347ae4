"""The hub of sensors: time, gaps, faults with a name, measures and conditions."""

import math
from array import array
from types import SimpleNamespace

import pytest

from qepa_board import sensing as sensing_module
from qepa_board.drivers import states
from qepa_board.sensing import SILENT_MS, Sensing
from qepa_board.streams.alerts import AlertEdges
from qepa_tools.recordings.recording import counts_from_adc
from qepa_tools.recordings.synthetic import synthetic_recording
from qepa_wire import measures as m
from qepa_wire import payloads

from .conftest import MortalFlash

IDENTITY = SimpleNamespace(fs_hz=360, mains_hz=50)


class FakeDriver:
    """A driver whose reads are what `give` queued: (samples by channel, gap)."""

    def __init__(self, channels, fs_hz, contact=None):
        self.channels, self.fs_hz, self.contact = channels, fs_hz, contact
        self.buffers = tuple(array("i", bytes(4 * 128)) for _ in channels)
        self.state, self.gap = states.OFF, 0
        self.minutes = array("i", bytes(4 * 128))
        self.queue = []

    def start(self):
        self.state = states.RUNNING

    def stop(self):
        self.state = states.OFF

    def give(self, *channels, gap=0):
        for start in range(0, len(channels[0]), 128):
            self.queue.append(([channel[start : start + 128] for channel in channels], gap if start == 0 else 0))

    def read(self):
        self.gap = 0
        if self.state in (states.OFF, states.BUS_ERROR, states.WRONG_CHIP) or not self.queue:
            return 0
        channels, self.gap = self.queue.pop(0)
        for buffer, values in zip(self.buffers, channels, strict=True):
            buffer[: len(values)] = array("i", values)
        return len(channels[0])


class Rig:
    def __init__(self, monkeypatch, *drivers):
        self.now_ms = 0
        self.drivers = drivers
        queue = list(drivers)
        monkeypatch.setattr(sensing_module, "open_sensor", lambda _entry, _flag: queue.pop(0))
        self.alerts = AlertEdges(MortalFlash())
        self.sensing = Sensing({"sensors": [{"chip": "fake"}] * len(drivers)}, None, IDENTITY, lambda: self.now_ms)
        self.sensing.start()

    def run(self):
        while self.sensing.poll():
            pass

    def measures(self):
        self.sensing.second()
        return {code: (quality, value) for code, quality, value in self.sensing.care(1, 0, self.alerts).measures}

    def conditions(self):
        return self.sensing.conditions(self.alerts)


@pytest.fixture
def heart():
    recording = synthetic_recording(3, 0, 60)
    return counts_from_adc(recording.samples).tolist()


def test_a_heart_rate_comes_of_samples_and_sample_time_passes(monkeypatch, heart):
    ecg = FakeDriver(("ecg",), 360)
    rig = Rig(monkeypatch, ecg)
    ecg.give(heart[: 20 * 360])
    rig.run()
    quality, value = rig.measures()[m.HEART_RATE]
    assert 40 < value < 130
    assert quality == 100
    assert rig.sensing.t_ms == 20_000
    assert rig.conditions()[payloads.ALERT_ASYSTOLE] is False


def test_samples_keep_their_numbers_over_a_gap_and_no_interval_goes_over_it(monkeypatch, heart):
    ecg = FakeDriver(("ecg",), 360)
    rig = Rig(monkeypatch, ecg)
    ecg.give(heart[: 20 * 360])
    rig.run()
    ecg.give(heart[22 * 360 : 22 * 360 + 128], gap=720)
    rig.run()
    pipeline = rig.sensing.ecg.pipeline
    assert pipeline.n_samples == 22 * 360 + 128
    assert rig.measures()[m.HEART_RATE] == (m.SETTLING, m.UNKNOWN)
    assert rig.conditions()[payloads.ALERT_ASYSTOLE] is None
    before = pipeline.n_beats
    ecg.give(heart[22 * 360 + 128 : 40 * 360])
    rig.run()
    assert 40 < rig.measures()[m.HEART_RATE][1] < 130
    peaks = [pipeline.beats.samples[k] for k in range(before, pipeline.n_beats)]
    assert min(peaks) >= 22 * 360


def waves_of(rig, seconds):
    """What is sent in as many seconds, each of them filled by ``give``, as number: value of axis 0."""
    found = {}
    for give in seconds:
        give()
        rig.run()
        for fields in rig.sensing.waves(1):
            wave = payloads.Wave(*fields)
            samples = array("h", wave.samples)
            assert 0 < len(samples) // wave.axes <= wave.fs_hz
            values = samples[:: wave.axes]
            assert not found.keys() & set(range(wave.first, wave.first + len(values))), "a sample was sent twice"
            found.update(enumerate(values, wave.first))
    return found


def test_waveforms_leave_out_what_was_lost_and_when_an_electrode_was_off(monkeypatch, heart):
    ecg = FakeDriver(("ecg",), 360)
    rig = Rig(monkeypatch, ecg)

    def second(i, state=states.RUNNING, gap=0):
        def give():
            ecg.state = state
            ecg.give(heart[360 * i : 360 * (i + 1)], gap=gap)

        return give

    seconds = [second(i) for i in range(6)]
    seconds[2] = second(2, states.LEAD_OFF)
    seconds[4] = second(4, gap=720)
    numbers = sorted(waves_of(rig, seconds))
    delay = rig.sensing.ecg.pipeline.filter.clean_delay
    off = range(720, 1080)
    lost = range(1440, 1440 + 720)
    assert not set(numbers) & {*off, *lost}
    assert set(numbers) == set(range(8 * 360 - delay)) - {*off, *lost} - set(range(1440 - delay, 1440)) - set(
        range(720 - delay, 720)
    )


def test_acceleration_is_sent_as_it_came_without_what_was_lost(monkeypatch):
    motion = FakeDriver(("ax", "ay", "az"), 104)
    rig = Rig(monkeypatch, motion)

    def second(i, gap=0):
        values = list(range(104 * i, 104 * (i + 1)))
        return lambda: motion.give(values, [9] * 104, [1000] * 104, gap=gap)

    found = waves_of(rig, [second(0), second(1), second(2, gap=50), second(3)])
    assert found == {**{i: i for i in range(208)}, **{i + 50: i for i in range(208, 416)}}


def test_a_dead_sensor_makes_its_measures_unknown_with_the_reason_and_time_goes_on(monkeypatch, heart):
    ecg = FakeDriver(("ecg",), 360)
    rig = Rig(monkeypatch, ecg)
    ecg.give(heart[: 20 * 360])
    rig.run()
    ecg.state = states.BUS_ERROR
    for _ in range(10):
        rig.now_ms += 1000
        rig.run()
    assert rig.measures()[m.HEART_RATE] == (m.SENSOR_FAULT, m.UNKNOWN)
    conditions = rig.conditions()
    assert conditions[payloads.ALERT_SENSOR_FAULT] is True
    assert conditions[payloads.ALERT_ASYSTOLE] is None
    assert rig.sensing.t_ms == 20_000 + 10_000 - SILENT_MS
    assert not rig.sensing.has_samples
    assert not rig.sensing.is_stuck()  # it says why it is silent


def test_a_sensor_that_claims_to_run_and_gives_nothing_is_stuck(monkeypatch, heart):
    ecg = FakeDriver(("ecg",), 360)
    rig = Rig(monkeypatch, ecg)
    ecg.give(heart[:720])
    rig.run()
    rig.now_ms += 3 * SILENT_MS
    rig.run()
    assert rig.sensing.is_stuck()


def test_an_electrode_that_is_off_hides_the_heart_rate_at_once(monkeypatch, heart):
    ecg = FakeDriver(("ecg",), 360)
    rig = Rig(monkeypatch, ecg)
    ecg.give(heart[: 20 * 360])
    rig.run()
    ecg.state = states.LEAD_OFF
    ecg.give([2047] * 36)
    rig.run()
    assert rig.measures()[m.HEART_RATE] == (m.LEAD_OFF, m.UNKNOWN)
    assert rig.conditions()[payloads.ALERT_LEAD_OFF] is True
    assert rig.sensing.care(1, 0, rig.alerts).flags == payloads.CARE_LEAD_OFF


def test_a_finger_that_left_the_optics_hides_neither_heart_rate_nor_asystole(monkeypatch, heart):
    ecg, optics = FakeDriver(("ecg",), 360), FakeDriver(("red", "ir"), 100)
    rig = Rig(monkeypatch, ecg, optics)
    optics.state = states.LEAD_OFF
    ecg.give(heart[: 20 * 360])
    rig.run()
    assert 40 < rig.measures()[m.HEART_RATE][1] < 130
    ecg.give([0] * (10 * 360))
    rig.run()
    conditions = rig.conditions()
    assert not conditions[payloads.ALERT_LEAD_OFF]
    assert (payloads.ALERT_ASYSTOLE, 1) in rig.alerts.edges(rig.sensing.t_ms, conditions)


def test_a_chip_that_knows_only_its_optics_contact_says_nothing_of_its_ecg(monkeypatch, heart):
    chip = FakeDriver(("red", "ir", "ecg"), 360, contact=("red", "ir"))
    rig = Rig(monkeypatch, chip)
    chip.state = states.LEAD_OFF
    seen = heart[: 20 * 360]
    chip.give([300] * len(seen), [300] * len(seen), seen)
    rig.run()
    measured = rig.measures()
    assert 40 < measured[m.HEART_RATE][1] < 130
    assert measured[m.SPO2] == measured[m.PULSE_RATE] == (m.LEAD_OFF, m.UNKNOWN)
    flat = [0] * (10 * 360)
    chip.give([300] * len(flat), [300] * len(flat), flat)
    rig.run()
    conditions = rig.conditions()
    assert not conditions[payloads.ALERT_LEAD_OFF]
    assert (payloads.ALERT_ASYSTOLE, 1) in rig.alerts.edges(rig.sensing.t_ms, conditions)


def breathing(seconds, per_minute=15, fs_hz=250, swing=4000, phase_s=0):
    """Thoracic impedance, in counts."""
    return [
        3_000_000 + round(swing * math.sin(2 * math.pi * per_minute / 60 * (k / fs_hz + phase_s)))
        for k in range(seconds * fs_hz)
    ]


def breathe(rig, chest, counts):
    """Hand the counts over a second at a time, and return the alerts of each second: (second, kind, level)."""
    told = []
    for start in range(0, len(counts), 250):
        chest.give([0] * 250, counts[start : start + 250])
        rig.run()
        rig.sensing.second()
        for kind, level in rig.alerts.edges(rig.sensing.t_ms, rig.conditions()):
            rig.alerts.confirm(kind, level)
            told.append((start // 250, kind, level))
    return [each for each in told if each[1] == payloads.ALERT_APNOEA]


def test_a_chest_that_stands_still_calls_once_and_breaths_end_it(monkeypatch):
    chest = FakeDriver(("ecg", "resp"), 250)
    rig = Rig(monkeypatch, chest)
    assert breathe(rig, chest, breathing(60)) == []
    ((begun, _, level),) = breathe(rig, chest, breathing(40, swing=0))
    assert 18 <= begun <= 26
    assert level == 1
    ((_, _, over),) = breathe(rig, chest, breathing(10))
    assert over == 0


def test_neither_noise_nor_the_heart_pass_for_the_breaths_of_a_chest_that_stands_still(monkeypatch):
    chest = FakeDriver(("ecg", "resp"), 250)
    rig = Rig(monkeypatch, chest)
    breathe(rig, chest, breathing(60))
    told = breathe(rig, chest, breathing(120, per_minute=70, swing=300))
    assert [level for _, _, level in told] == [1], "it lasts as long as the chest stands still"


def test_apnoea_cannot_be_told_without_electrodes_and_keeps_its_state(monkeypatch):
    chest = FakeDriver(("ecg", "resp"), 250)
    rig = Rig(monkeypatch, chest)
    breathe(rig, chest, breathing(60))
    breathe(rig, chest, breathing(40, swing=0))
    chest.state = states.LEAD_OFF
    assert breathe(rig, chest, breathing(30)) == []
    assert rig.conditions()[payloads.ALERT_APNOEA] is None
    assert rig.alerts.is_active(payloads.ALERT_APNOEA)
    alert = rig.sensing.alert(1, payloads.ALERT_APNOEA, 1, 400)
    assert (alert.kind, alert.value) == (payloads.ALERT_APNOEA, 0)
    chest.state = states.RUNNING
    assert [level for _, _, level in breathe(rig, chest, breathing(60))] == [0]


def test_a_board_that_measures_no_breathing_tells_no_apnoea(monkeypatch, heart):
    rig = Rig(monkeypatch, FakeDriver(("ecg",), 360))
    assert payloads.ALERT_APNOEA not in rig.conditions()


def test_nothing_in_front_of_the_optics_is_no_pulse(monkeypatch):
    optics = FakeDriver(("red", "ir"), 100)
    rig = Rig(monkeypatch, optics)
    optics.state = states.LEAD_OFF
    optics.give([300] * 100, [400] * 100)
    rig.run()
    measured = rig.measures()
    assert measured[m.PULSE_RATE] == measured[m.SPO2] == (m.LEAD_OFF, m.UNKNOWN)
    assert rig.conditions()[payloads.ALERT_LOW_SPO2] is None
    assert payloads.ALERT_ASYSTOLE not in rig.conditions()
    assert rig.sensing.t_ms == 1000


def test_glucose_calls_at_its_levels_and_says_the_value(monkeypatch):
    monitor = FakeDriver(("glucose",), 0)
    rig = Rig(monkeypatch, monitor)
    for value, low, high in ((110, 0, 0), (65, 1, 0), (50, 2, 0), (300, 0, 1)):
        monitor.give([value])
        rig.run()
        assert rig.measures()[m.GLUCOSE] == (100, value)
        conditions = rig.conditions()
        assert (conditions[payloads.ALERT_GLUCOSE_LOW], conditions[payloads.ALERT_GLUCOSE_HIGH]) == (low, high)
        rig.now_ms += 3_600_000
        rig.run()
    alert = rig.sensing.alert(3, payloads.ALERT_GLUCOSE_HIGH, 1, 500)
    assert (alert.value, alert.active, alert.boots) == (300, 1, 3)
    assert payloads.decode_alert(bytes(32), 1, payloads.encode_alert(bytes(32), 1, alert)) == alert
    assert rig.measures()[m.GLUCOSE] == (m.STALE, m.UNKNOWN)
    assert rig.conditions()[payloads.ALERT_GLUCOSE_LOW] is None


def test_every_level_of_an_alert_is_an_alert_that_the_gateway_takes(monkeypatch):
    rig = Rig(monkeypatch, FakeDriver(("glucose",), 0))
    for kind in payloads.ALERT_KINDS:
        for level in (0, 1, 2):
            alert = rig.sensing.alert(1, kind, level, 400)
            assert payloads.decode_alert(bytes(32), 9, payloads.encode_alert(bytes(32), 9, alert)) == alert


def test_each_sensor_fails_alone(monkeypatch, heart):
    ecg, thermometer = FakeDriver(("ecg",), 360), FakeDriver(("temperature",), 1)
    rig = Rig(monkeypatch, ecg, thermometer)
    thermometer.state = states.WRONG_CHIP
    ecg.give(heart[: 20 * 360])
    rig.run()
    measured = rig.measures()
    assert measured[m.TEMPERATURE] == (m.SENSOR_FAULT, m.UNKNOWN)
    assert 40 < measured[m.HEART_RATE][1] < 130
    assert rig.sensing.states == [states.RUNNING, states.WRONG_CHIP]


def test_breathing_is_told_from_what_it_does_to_pulses(monkeypatch):
    optics = FakeDriver(("red", "ir"), 100)
    rig = Rig(monkeypatch, optics)
    infrared = []
    for k in range(60 * 100):
        breath = math.sin(2 * math.pi * k / 400)  # 15 breaths a minute
        beat = max(0.0, math.sin(2 * math.pi * k / 83)) ** 3
        infrared.append(round(120_000 - (900 + 250 * breath) * beat + 700 * breath))
    optics.give([round(0.7 * v) for v in infrared], infrared)
    rig.run()
    measured = rig.measures()
    assert measured[m.PULSE_RATE][1] == pytest.approx(72, abs=2)
    assert measured[m.RESP_RATE_DERIVED][1] == pytest.approx(150, abs=15)


def test_breathing_is_derived_from_the_ecg_where_the_board_is_told_to(monkeypatch, heart):
    ecg = FakeDriver(("ecg",), 360)
    rig = Rig(monkeypatch, ecg)
    assert m.RESP_RATE_DERIVED not in rig.measures()
    rig.sensing.ecg.derive_breaths()
    ecg.give(heart)
    rig.run()
    assert m.RESP_RATE_DERIVED in rig.measures()
    ecg.state = states.BUS_ERROR
    rig.run()
    assert rig.measures()[m.RESP_RATE_DERIVED] == (m.SENSOR_FAULT, m.UNKNOWN)


def test_a_patient_who_moves_is_not_measured_by_light(monkeypatch):
    optics = FakeDriver(("red", "ir"), 100)
    motion = FakeDriver(("ax", "ay", "az"), 50)
    rig = Rig(monkeypatch, optics, motion)
    shake = [(-1) ** (k // 3) * 900 for k in range(500)]
    motion.give(shake, [1000] * 500, shake)
    optics.give([100_000] * 200, [120_000] * 200)
    rig.run()
    rig.measures()
    optics.give([100_000] * 200, [120_000] * 200)
    rig.run()
    assert rig.measures()[m.PULSE_RATE] == (m.MOTION, m.UNKNOWN)
