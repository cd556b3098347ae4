"""Layout of the statistics stream: 16 words a board, whose sums a hospital may open.

From sums over n boards with a value: mean heart rate = sum(hr) / n, its variance between boards
= sum(hr^2) / n - mean^2, a histogram of boards by mean heart rate, means of beats, SDNN and RMSSD.
"""

try:
    from collections.abc import Sequence
except ImportError:  # MicroPython: the annotation stays a string
    pass

HR_EDGES_BPM = (40, 50, 60, 75, 90, 110, 130)  # bins: below 40, 40-49, 50-59, 60-74, 75-89, 90-109, 110-129, 130 up
N_BINS = len(HR_EDGES_BPM) + 1

NAMES = (
    "valid",  # 1 where the window has enough good RR intervals; else every word is 0
    "hr_bpm",  # mean heart rate over the window, rounded
    "hr_squared_bpm2",
    "beats",  # RR intervals counted
    "sdnn_ms",  # standard deviation of RR
    "rmssd_ms",  # root mean square of successive RR differences
    "rr_min_ms",
    "rr_max_ms",
    "hr_below_40",
    "hr_40_49",
    "hr_50_59",
    "hr_60_74",
    "hr_75_89",
    "hr_90_109",
    "hr_110_129",
    "hr_130_up",
)
BOUNDS = (1, 300, 90000, 1023, 1023, 1023, 4095, 4095, 1, 1, 1, 1, 1, 1, 1, 1)  # each word is 0 to its bound
WORDS = len(NAMES)
VALID, HR, HR_SQUARED = 0, 1, 2
FIRST_BIN = WORDS - N_BINS
Q_MAX = 90000  # the largest bound: words are sent as they are

# Where noise is added, every word is sent in the same unit, so that one bound and one noise fit all of them: valid and
# bins as 0 or SCALE, the others as SCALE times their distance from CENTRES in SPANS, beyond +-SCALE clipped. The word
# of hr_squared_bpm2 is then the square of (hr - 75): smaller, and it gives the same variance.
SCALE = 1024
CENTRES = (0, 75, 0, 0, 50, 40, 800, 900, 0, 0, 0, 0, 0, 0, 0, 0)
SPANS = (1, 105, 11025, 1023, 250, 250, 800, 1200, 1, 1, 1, 1, 1, 1, 1, 1)


def scaled(words: "Sequence[int]") -> "Sequence[int]":
    """Return ``words`` (the layout above) in one unit, each from -SCALE to SCALE; without a value all are 0."""
    if not words[VALID]:
        return [0] * WORDS
    out = []
    for k in range(WORDS):
        value = words[k] - CENTRES[k]
        if k == HR_SQUARED:
            value = (words[HR] - CENTRES[HR]) * (words[HR] - CENTRES[HR])
        value = (2 * SCALE * value + SPANS[k]) // (2 * SPANS[k])
        out.append(max(-SCALE, min(SCALE, value)))
    return out
