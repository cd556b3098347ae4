"""Windows of beats and of quality: the same for every unit, rate and lead, and none where samples are missing."""

import numpy as np
import pytest

from qepa_gateway.inference.windows import BEFORE_R, LENGTH, RATE_HZ, BeatWindows, quality_window
from qepa_uplink.bedside_models import NUMBERS


def heart(fs_hz, rr_s, *, seed=1, seconds=40):
    """(samples [n, 1], R peaks) of a triangle QRS with a T wave, one RR after the other from ``rr_s``."""
    n = seconds * fs_hz
    t = np.arange(n) / fs_hz
    rng = np.random.default_rng(seed)
    signal = rng.normal(0, 4, n)
    times, at = [], 1.0
    k = 0
    while at < seconds - 1:
        times.append(at)
        at += rr_s[k % len(rr_s)]
        k += 1
    for at in times:
        signal += 800 * np.clip(1 - np.abs(t - at) / 0.03, 0, 1) + 150 * np.exp(-(((t - at - 0.25) / 0.05) ** 2))
    return signal[:, None].astype(np.float32), [round(at * fs_hz) for at in times]


def read_all(samples, peaks, fs_hz):
    reader = BeatWindows(fs_hz)
    following = [*peaks[1:], None]
    return [
        reader.read(samples, 0, peak, before, after)
        for before, peak, after in zip([None, *peaks], peaks, following, strict=False)
    ]


def value(found, name):
    return float(found[1][0, NUMBERS.index(name)])


@pytest.mark.parametrize("fs_hz", [200, 250, 360, 500])
def test_a_beat_looks_alike_at_every_rate_of_a_board(fs_hz):
    samples, peaks = heart(fs_hz, [0.8])
    leads, numbers = read_all(samples, peaks, fs_hz)[20]
    assert leads.shape == (1, LENGTH, 4)
    assert numbers.shape == (1, len(NUMBERS))
    assert abs(int(leads[0, :, 0].argmax()) - BEFORE_R) <= 1
    assert np.ptp(leads[0, :, 0]) == pytest.approx(1, abs=0.1)
    assert np.abs(leads[0, :, 1]).max() < 0.2  # nothing unlike the usual beat
    assert np.abs(numbers[0, :12]).max() < 0.2


def test_units_do_not_matter():
    samples, peaks = heart(360, [0.8, 0.7])
    for ours, theirs in zip(read_all(samples, peaks, 360), read_all(17 * samples, peaks, 360), strict=True):
        np.testing.assert_allclose(ours[0], theirs[0], atol=1e-4)
        np.testing.assert_allclose(ours[1], theirs[1], atol=1e-4)


def test_an_early_beat_is_early_in_a_regular_rhythm_alone():
    rhythm = [0.8] * 14 + [0.5, 1.1]
    samples, peaks = heart(360, rhythm)
    found = read_all(samples, peaks, 360)
    early = found[15 + 16]
    assert value(early, "pre_to_usual") < -0.2
    assert value(early, "early") > 0.5
    assert value(early, "post_to_usual") > 0.2
    assert value(found[10 + 16], "early") == 0

    rng = np.random.default_rng(3)
    samples, peaks = heart(360, list(rng.uniform(0.4, 1.2, 50)))
    for each in read_all(samples, peaks, 360)[40:]:
        assert value(each, "unequal") > 0.6
        assert value(each, "early") == 0
        assert abs(value(each, "pre_to_usual")) < 1  # four times a tenth or so of an interval twice as long


def test_a_second_lead_is_told_apart_from_none():
    samples, peaks = heart(360, [0.8])
    both = np.column_stack([samples[:, 0], -0.5 * samples[:, 0]])
    one, two = read_all(samples, peaks, 360)[20], read_all(both, peaks, 360)[20]
    assert value(one, "second_lead") == 0
    assert not one[0][..., 2:].any()
    assert value(two, "second_lead") == 1
    np.testing.assert_array_equal(one[0][..., :2], two[0][..., :2])
    both[:, 1] = np.nan
    assert value(read_all(both, peaks, 360)[20], "second_lead") == 0


def test_missing_samples_give_no_window_and_no_beat_is_measured_over_them():
    samples, peaks = heart(360, [0.8])
    samples[peaks[20] + 30] = np.nan
    found = read_all(samples, peaks, 360)
    assert [k for k, each in enumerate(found) if each is None] == [20]
    reader = BeatWindows(360)
    assert reader.read(samples[:400], 0, 20, None, None) is None  # begins too late for it
    assert reader.read(samples[:400], 0, 390, None, None) is None  # ends too early
    assert reader.read(np.zeros((800, 1), np.float32), 0, 400, None, None) is None  # nothing is there


def test_quality_looks_at_the_last_four_seconds():
    samples, _ = heart(360, [0.8])
    window = quality_window(samples[:, 0], 360)
    assert window.shape == (1, 4 * RATE_HZ + 12, 1)
    assert float((window**2).mean()) == pytest.approx(1, abs=0.05)
    np.testing.assert_allclose(window, quality_window(9 * samples[:, 0] + 40, 360), atol=1e-3)
    assert quality_window(samples[:1400, 0], 360) is None
    assert quality_window(np.zeros(2000, np.float32), 360) is None
    samples[-5] = np.nan
    assert quality_window(samples[:, 0], 360) is None
