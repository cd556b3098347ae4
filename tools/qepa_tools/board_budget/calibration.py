"""From this machine's microseconds to an ESP32's: an estimate, and said so wherever it is shown.

MicroPython's own benchmark suite gave an ESP32 the scores PUBLISHED (micropython pull request 7850, "esp32-perf"; the
clock is not stated, 240 MHz is assumed, which is the slower reading). The same programs with the same parameters gave
the i386 port the scores MEASURED on a machine where `reference` of stages_on_board.py took REFERENCE_US. So an ESP32
would take REFERENCE_US times the mean ratio for `reference`, and what `reference` takes here tells how much faster this
machine is. The three programs are integer work in bytecode and disagree by a fifth around their mean.

Native kernels are taken to be as much faster here as bytecode is; there are no published scores for them. AES and
SHA-256 run in an ESP32's accelerators and are estimated from ESP-IDF's guaranteed throughput instead.
"""

import math

PUBLISHED = {"bm_fannkuch": 71.63, "bm_nqueens": 2232.22, "misc_aes": 334.52}
MEASURED = {"bm_fannkuch": 6147.5, "bm_nqueens": 264831.0, "misc_aes": 35615.0}
REFERENCE_US = 57.2


def mean_ratio() -> float:
    """Geometric mean of the ratios of measured to published scores."""
    ratios = [MEASURED[name] / score for name, score in PUBLISHED.items()]
    return math.exp(sum(map(math.log, ratios)) / len(ratios))


def esp32_factor(reference_us: float) -> float:
    """How many times slower an ESP32 at 240 MHz is than the machine on which `reference` takes ``reference_us``."""
    return mean_ratio() * REFERENCE_US / reference_us
