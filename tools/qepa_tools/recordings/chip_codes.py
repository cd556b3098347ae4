"""Recordings as sensor chips would have coded them, for the models of qepa_tools.chips; and values of a CGM sensor.

Each function takes signals at the chip's rate and returns int32 codes, one row a sample, in the order in which the
model's source gives them. The scales are the data sheets', written down once more on purpose: the drivers have theirs
as integer ratios.
"""

import binascii
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qepa_tools.recordings.recording import ADC_UNITS_PER_MV

Codes = NDArray[np.int32]


def resampled(signal: ArrayLike, fs_hz: float, new_fs_hz: float) -> NDArray[np.float64]:
    """A signal (n,) at another rate, by linear interpolation."""
    values = np.asarray(signal, dtype=np.float64)
    count = int((len(values) - 1) * new_fs_hz / fs_hz) + 1
    return np.interp(np.arange(count) / new_fs_hz, np.arange(len(values)) / fs_hz, values)


def max30003(ecg_mv: ArrayLike) -> Codes:
    """Gain 40, reference 1 V, 18 bits."""
    return _coded([np.asarray(ecg_mv) * 40 / 1000 * 2**17], 18)


def ad8232(ecg_mv: ArrayLike) -> Codes:
    """Counts of the ADC pin behind it, as the unix port's machine shows them: no chip, but likewise a file."""
    steps = np.clip(np.rint(np.asarray(ecg_mv) * ADC_UNITS_PER_MV / 16), -2048, 2047)
    codes: Codes = ((steps[:, None] + 2048) * 16).astype(np.int32)
    return codes


def ads1292r(resp_counts: ArrayLike, ecg_mv: ArrayLike) -> Codes:
    """Respiration as it is; ECG at gain 6, reference 2.42 V, 24 bits."""
    return _coded([np.asarray(resp_counts), np.asarray(ecg_mv) * 6 / 2420 * 2**23], 24)


def max30101(red: ArrayLike, infrared: ArrayLike) -> Codes:
    """18 bits of light."""
    return _light(red, infrared, 18)


def max86150(red: ArrayLike, infrared: ArrayLike, ecg_mv: ArrayLike) -> Codes:
    """Light of 18 bits in 19; ECG in steps of 12.247 microvolts behind a gain of 76."""
    light = _light(2 * np.asarray(red), 2 * np.asarray(infrared), 19)
    return np.hstack([light, _coded([np.asarray(ecg_mv) * 1000 * 76 / 12.247], 18)])


def lsm6dso(acceleration_mg: ArrayLike, rotation_dps: ArrayLike) -> Codes:
    """Rows x, y, z of each; 0.244 mg and 17.5 mdps a step."""
    return _coded([*(np.asarray(acceleration_mg) / 0.244), *(np.asarray(rotation_dps) / 0.0175)], 16)


def mpu6050(acceleration_mg: ArrayLike, rotation_dps: ArrayLike) -> Codes:
    """Rows x, y, z of each; 4096 steps a g, 65.5 a degree a second."""
    return _coded([*(np.asarray(acceleration_mg) * 4.096), *(np.asarray(rotation_dps) * 65.5)], 16)


def tmp117(celsius: ArrayLike) -> Codes:
    """128 steps a degree."""
    return _coded([np.asarray(celsius) * 128], 16)


def max30205(celsius: ArrayLike) -> Codes:
    """256 steps a degree."""
    return _coded([np.asarray(celsius) * 256], 16)


def write_codes(codes: Codes, path: Path) -> None:
    """A file that a model plays: int32, little endian."""
    path.write_bytes(codes.astype("<i4").tobytes())


def _coded(channels: list[NDArray[np.float64]], bits: int) -> Codes:
    """Rounded and clipped to signed words of ``bits``."""
    limit = 1 << (bits - 1)
    codes: Codes = np.clip(np.rint(np.column_stack(channels)), -limit, limit - 1).astype(np.int32)
    return codes


def _light(red: ArrayLike, infrared: ArrayLike, bits: int) -> Codes:
    codes: Codes = np.clip(np.rint(np.column_stack([red, infrared])), 0, (1 << bits) - 1).astype(np.int32)
    return codes


def cgm_measurement(
    mg_dl: int | None,
    minute: int,
    *,
    trend: float | None = None,
    quality: int | None = None,
    status: int | None = None,
    calibration: int | None = None,
    warning: int | None = None,
    crc: bool = False,
) -> bytes:
    """One record of a CGM Measurement value (0x2AA7); ``mg_dl`` None is NaN, ``trend`` in mg/dL a minute.

    ``status``, ``calibration`` and ``warning`` are the octets of the sensor's status, left out where None.
    """
    flags = 0
    tail = b""
    for bit, octet in ((0x80, status), (0x40, calibration), (0x20, warning)):
        if octet is not None:
            flags |= bit
            tail += bytes([octet])
    for bit, number in ((0x01, trend), (0x02, quality)):
        if number is not None:
            flags |= bit
            tail += _sfloat(number)
    body = bytes([flags]) + (b"\xff\x07" if mg_dl is None else _sfloat(mg_dl)) + minute.to_bytes(2, "little") + tail
    record = bytes([1 + len(body) + 2 * crc]) + body
    return record + (binascii.crc_hqx(record, 0xFFFF).to_bytes(2, "little") if crc else b"")


def _sfloat(number: float) -> bytes:
    """IEEE 11073 SFLOAT: whole numbers as they are, others in hundredths or tenths."""
    exponent = 0
    while round(number * 10.0**-exponent, 6) % 1 and exponent > -2:
        exponent -= 1
    mantissa = round(number * 10.0**-exponent)
    word: int = (exponent & 15) << 12 | mantissa & 0xFFF
    return word.to_bytes(2, "little")
