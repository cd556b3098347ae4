"""ECG recordings with beat labels for virtual boards: real ones in WFDB format, else a synthetic model's.

What reads WFDB files (physionet) or runs firmware (board_beats, evaluation) is imported from its own module.
"""

from qepa_tools.recordings.places import find_data
from qepa_tools.recordings.recording import AAMI_CLASSES, BeatLabel, DataError, Recording
from qepa_tools.recordings.synthetic import synthetic_cohort
from qepa_tools.recordings.ward_split import ward_split

__all__ = ["AAMI_CLASSES", "BeatLabel", "DataError", "Recording", "find_data", "synthetic_cohort", "ward_split"]
