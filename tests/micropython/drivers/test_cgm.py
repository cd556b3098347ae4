"""CGM readings over the standard Bluetooth profile: values as sensors send them, and everything that is none."""

import itertools
import json
import random

from hypothesis import given
from hypothesis import strategies as st

from qepa_board.drivers import states
from qepa_board.drivers.cgm import NO_TREND, Cgm, crc16, sfloat_tenths
from qepa_tools.recordings.cgm import load_cgm
from qepa_tools.recordings.chip_codes import cgm_measurement


class Flag:
    count = 0

    def set(self):
        self.count += 1


def sensor():
    cgm = Cgm(Flag())
    cgm.start()
    return cgm


def readings(cgm):
    n = cgm.read()
    return [(cgm.minutes[i], cgm.buffers[0][i], cgm.trends[i]) for i in range(n)]


def test_the_checksum_is_the_catalogue_one():
    assert crc16(b"123456789", 0, 9) == 0x29B1  # CRC-16/IBM-3740


def test_sfloats():
    assert sfloat_tenths(0x0072) == 1140
    assert sfloat_tenths(0xE074) == 12, "1.16"
    assert sfloat_tenths(0xFFF6) == -10, "-10 * 10^-1"
    assert sfloat_tenths(0x1012) == 1800
    for special in (0x07FE, 0x07FF, 0x0800, 0x0801, 0x0802):
        assert sfloat_tenths(special) is None
    assert sfloat_tenths(0x7FFF) is None, "too large to be of use"
    assert sfloat_tenths(0x7000) == 0


def test_a_day_of_a_person_with_diabetes_arrives_whole_on_both_interpreters(bench, recordings):
    record = load_cgm(recordings / "cgm", "BIG IDEAs")[0]
    minutes = (record.t_s // 60)[:288].tolist()
    glucose = record.mg_dl[:288].tolist()
    trends = [0.0] + [(b - a) / 5 for a, b in itertools.pairwise(glucose)]
    values = [
        cgm_measurement(g, m, trend=t, quality=90 if m % 2 else None, status=0 if m % 3 else None, crc=bool(m % 5))
        for g, m, t in zip(glucose, minutes, trends, strict=True)
    ]
    (got,) = bench(
        """
from qepa_board.drivers import open_sensor
cgm = open_sensor({"chip": "cgm"}, flag)
cgm.start()
got = []
for number, value in enumerate(json.load(open("values.json"))):
    assert cgm.feed(bytes.fromhex(value))
    if number % 7 == 6:
        n = cgm.read()
        got += [[cgm.minutes[i], cgm.buffers[0][i], cgm.trends[i]] for i in range(n)]
n = cgm.read()
got += [[cgm.minutes[i], cgm.buffers[0][i], cgm.trends[i]] for i in range(n)]
tell([got, cgm.faults, flag.count])
""",
        {"values.json": json.dumps([value.hex() for value in values]).encode()},
    )
    assert [row[:2] for row in got[0]] == [list(pair) for pair in zip(minutes, glucose, strict=True)]
    assert all(abs(row[2] / 10 - t) <= 0.06 for row, t in zip(got[0], trends, strict=True))
    assert got[1:] == [0, len(values)]


def test_several_records_in_one_value():
    cgm = sensor()
    assert cgm.feed(cgm_measurement(100, 0) + cgm_measurement(104, 5, trend=0.8) + cgm_measurement(103, 10, crc=True))
    assert readings(cgm) == [(0, 100, NO_TREND), (5, 104, 8), (10, 103, NO_TREND)]
    assert cgm.state == states.RUNNING


def test_missing_readings_are_a_gap_and_a_repeated_one_is_not_taken_twice():
    cgm = sensor()
    for minute in (0, 5, 5, 20, 25):
        cgm.feed(cgm_measurement(110, minute))
    assert [minute for minute, *_ in readings(cgm)] == [0, 5, 20, 25]
    assert (cgm.gap, cgm.lost, cgm.state) == (2, 2, states.OVERFLOW)
    cgm.feed(cgm_measurement(110, 30))
    readings(cgm)
    assert (cgm.gap, cgm.state) == (0, states.RUNNING)


def test_a_new_session_begins_at_minute_nought_without_a_gap():
    cgm = sensor()
    cgm.feed(cgm_measurement(110, 14400))
    cgm.feed(cgm_measurement(90, 0))
    assert [minute for minute, *_ in readings(cgm)] == [14400, 0]
    assert cgm.gap == 0


def test_what_the_sensor_says_of_itself():
    for octet, state in ((0x01, states.FAULT), (0x08, states.FAULT), (0x20, states.FAULT), (0x04, states.WRONG_CHIP)):
        cgm = sensor()
        assert cgm.feed(cgm_measurement(110, 5, status=octet))
        assert readings(cgm) == [], "a reading of a sensor that says it is broken is none"
        assert cgm.state == state
        cgm.feed(cgm_measurement(110, 10, status=0x02))
        assert readings(cgm) == [(10, 110, NO_TREND)], "a low battery is no reason"
        assert cgm.state == states.RUNNING


def test_no_number_is_made_of_a_value_that_is_none():
    cgm = sensor()
    assert cgm.feed(cgm_measurement(None, 5))
    assert readings(cgm) == []
    assert cgm.feed(cgm_measurement(65, 20, warning=0x04)), "below the patient's limit is a reading"
    assert readings(cgm) == [(20, 65, NO_TREND)]
    assert cgm.faults == 0


def test_beyond_what_the_sensor_can_tell_in_numbers_it_says_low_or_high():
    cgm = sensor()
    assert cgm.feed(cgm_measurement(400, 10, warning=0x80)), "higher than the sensor can process"
    assert cgm.feed(cgm_measurement(39, 15, status=0, calibration=0, warning=0x40)), "lower"
    assert cgm.feed(cgm_measurement(None, 20, warning=0x40)), "lower, and no number at all"
    assert readings(cgm) == [(10, 600, NO_TREND), (15, 20, NO_TREND), (20, 20, NO_TREND)]


def test_a_reader_that_does_not_come_loses_the_oldest():
    cgm = sensor()
    for minute in range(0, 100, 5):
        cgm.feed(cgm_measurement(100 + minute, minute))
    assert [minute for minute, *_ in readings(cgm)] == list(range(20, 100, 5))
    assert (cgm.gap, cgm.lost) == (4, 4)


def test_a_stopped_source_takes_nothing():
    cgm = sensor()
    cgm.stop()
    assert not cgm.feed(cgm_measurement(100, 0))
    assert (cgm.read(), cgm.state) == (0, states.OFF)


@given(value=st.binary(max_size=40))
def test_any_bytes_are_taken_or_counted(value):
    cgm = sensor()
    taken = cgm.feed(value)
    assert taken == (cgm.faults == 0)
    assert all(0 < glucose <= 1000 for _, glucose, _ in readings(cgm))


def test_every_flipped_bit_is_noticed_where_there_is_a_checksum():
    value = cgm_measurement(112, 725, trend=-1.2, quality=95, status=0, crc=True)
    for bit in random.Random(1).sample(range(8, 8 * len(value)), 60):
        flipped = bytearray(value)
        flipped[bit // 8] ^= 1 << bit % 8
        cgm = sensor()
        assert not cgm.feed(bytes(flipped))
        assert (cgm.faults, readings(cgm)) == (1, [])
