"""What a board measures: one code, unit and scale for each, for boards, gateways and servers alike.

A measure on the wire is ``code u8 | quality u8 | value i16``. Where a signal does not carry a value there is none:
value is UNKNOWN and quality says why. Nothing is guessed, and nothing old is sent as new.
"""

from collections import namedtuple

UNKNOWN = -32768

HEART_RATE = 1
PULSE_RATE = 2
RESP_RATE = 3
SPO2 = 4
PERFUSION = 5
TEMPERATURE = 6
STEPS = 7
POSTURE = 8
ACTIVITY = 9
GLUCOSE = 10
GLUCOSE_TREND = 11
RESP_RATE_DERIVED = 12

HEART_RATE_LOW = 15
HEART_RATE_HIGH = 300

# scale: a value on the wire is the value in ``unit`` times scale; low and high bound the value on the wire
Measure = namedtuple("Measure", ("name", "unit", "scale", "low", "high"))

MEASURES = {
    HEART_RATE: Measure("heart_rate", "/min", 1, HEART_RATE_LOW, HEART_RATE_HIGH),  # from the ECG
    PULSE_RATE: Measure("pulse_rate", "/min", 1, 15, 300),  # from the PPG
    RESP_RATE: Measure("resp_rate", "/min", 10, 20, 900),  # thoracic impedance
    SPO2: Measure("spo2", "%", 10, 0, 1000),  # ratio of ratios with a textbook curve: uncalibrated
    PERFUSION: Measure("perfusion", "%", 100, 0, 3000),
    TEMPERATURE: Measure("temperature", "Cel", 100, 1000, 5000),  # of the skin
    STEPS: Measure("steps", "1", 1, 0, 32767),  # since boot, mod 32768
    POSTURE: Measure("posture", "1", 1, 0, 5),  # index into POSTURES
    ACTIVITY: Measure("activity", "mg", 1, 0, 16000),  # mean dynamic acceleration
    GLUCOSE: Measure("glucose", "mg/dL", 1, 20, 600),  # the bounds themselves: a monitor's "low" and "high"
    GLUCOSE_TREND: Measure("glucose_trend", "mg/dL/min", 10, -300, 300),
    RESP_RATE_DERIVED: Measure("resp_rate_derived", "/min", 10, 20, 900),  # from ECG or PPG
}
POSTURES = ("moving", "upright", "supine", "prone", "left", "right")

# Why a value is unknown
NO_DATA = 1  # the sensor gave nothing (yet)
LEAD_OFF = 2  # electrode off, finger off
POOR_SIGNAL = 3  # too noisy to tell
SETTLING = 4  # filters and windows are filling
SENSOR_FAULT = 5  # bus error, wrong chip
MOTION = 6  # too much movement for this value
STALE = 7  # the last value is too old
REASONS = {
    NO_DATA: "no_data",
    LEAD_OFF: "lead_off",
    POOR_SIGNAL: "poor_signal",
    SETTLING: "settling",
    SENSOR_FAULT: "sensor_fault",
    MOTION: "motion",
    STALE: "stale",
}
