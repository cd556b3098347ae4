"""The error grid of Clarke et al., Evaluating clinical accuracy of systems for self-monitoring of blood glucose,
Diabetes Care 1987; 10(5): 622-628. It judges meters; for a forecast it says how wrong a treatment by it would be."""

import numpy as np
from numpy.typing import NDArray

ZONES = "ABCDE"


def zones(reference: NDArray[np.float64], told: NDArray[np.float64]) -> NDArray[np.int64]:
    """Index into ZONES of each pair, in mg/dL: A right, B benign, C overcorrects, D misses, E does the opposite."""
    # Each rule wins over those before it.
    zone = np.full(len(reference), ZONES.index("B"))
    low_unseen = (reference <= 70) & (told >= 70) & ((reference <= 175 / 3) | (told >= 1.2 * reference))
    misses = ((reference >= 240) | low_unseen) & (told >= 70) & (told <= 180)
    zone[misses] = ZONES.index("D")
    over = (reference >= 70) & (reference <= 290) & (told >= reference + 110)
    under = (reference >= 130) & (reference <= 180) & (told <= 1.4 * reference - 182)
    zone[over | under] = ZONES.index("C")
    zone[((reference >= 180) & (told <= 70)) | ((reference <= 70) & (told >= 180))] = ZONES.index("E")
    zone[((reference <= 70) & (told <= 70)) | (np.abs(told - reference) <= 0.2 * reference)] = ZONES.index("A")
    return zone
