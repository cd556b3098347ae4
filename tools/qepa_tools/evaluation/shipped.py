"""Make the model that a fresh server starts with: `python -m qepa_tools.evaluation.shipped` rewrites its file.

It learns from everybody, so its own figures would be no figures: the card holds those of the cross-validation, in which
each person is judged by a model trained on the others.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from qepa_board.learning.network import FRACTION_BITS
from qepa_tools.errors import ToolError
from qepa_tools.evaluation.cli import CACHE, show_track
from qepa_tools.evaluation.cohort import Cohort, read_cohort
from qepa_tools.evaluation.cross_validation import FOLDS, train
from qepa_tools.evaluation.evaluate import Result, cross_validated
from qepa_tools.evaluation.fitting import FitSettings, to_words
from qepa_tools.evaluation.model import SHIPPED, BoardModel, recording_digest, save_model
from qepa_tools.evaluation.operating_points import OperatingPoints, operating_points
from qepa_tools.recordings.board_beats import FeatureCache
from qepa_tools.recordings.places import find_data
from qepa_tools.recordings.recording import AAMI_CLASSES, DataError

LIMITS = (
    "Not a medical device. Adults of one hospital, one lead (MLII where there is one), two-channel Holter tapes of the "
    "1970s. No paced rhythm. It never answers F. In atrial fibrillation it finds hardly any supraventricular "
    "beat; sinus arrhythmia makes false ones. Its features were designed, and the way it is trained was chosen, by "
    "looking at these same people."
)


def make(cohort: Cohort, settings: FitSettings, result: Result, points: OperatingPoints) -> BoardModel:
    """Train on everybody and write the card from the facts."""
    model, fitted = train(cohort.cases, settings)
    shift = np.subtract(model.words, to_words(fitted)).reshape(len(AAMI_CLASSES), -1)[:, -1] / (1 << FRACTION_BITS)
    counts = np.bincount(
        np.concatenate([case.beats.classes[case.beats.labelled] for case in cohort.cases]), minlength=len(AAMI_CLASSES)
    )
    card = {
        "data": "MIT-BIH Arrhythmia Database (Moody and Mark 2001), the records of persons below",
        "persons": list(cohort.persons),
        "records": [case.recording.id for case in cohort.cases],
        "beats": dict(zip(AAMI_CLASSES, map(int, counts), strict=True)),
        "settings": asdict(settings),
        "shift": dict(zip(AAMI_CLASSES, map(float, shift), strict=True)),
        "judged_by": result.how,
        "accuracy": result.overall.accuracy,
        "macro_f1_nsv": result.overall.macro_f1,
        "sensitivity": result.overall.sensitivity,
        "ppv": result.overall.ppv,
        "intervals_95": {name: i and [i.low, i.high] for name, i in result.intervals.items()},
        "temperature": points.settled.temperature,
        "alarms": [
            {**asdict(found), "threshold": points.settled.thresholds[found.answer, found.limit_per_hour]}
            for found in points.alarms
        ],
        "calibration_error": {"as_trained": points.before.ece, "with_temperature": points.after.ece},
        "limits": LIMITS,
    }
    return replace(model, trained_on=frozenset(recording_digest(case.recording) for case in cohort.cases), card=card)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m qepa_tools.evaluation.shipped", description=__doc__)
    parser.add_argument("--data", type=Path, help="directory of WFDB records (default: MIT-BIH if found)")
    parser.add_argument("--cache", type=Path, default=CACHE)
    parser.add_argument("--file", type=Path, default=SHIPPED, help="what to write")
    options = parser.parse_args(arguments)
    try:
        directory = find_data(options.data)
        if directory is None:
            raise DataError("No recordings found: name a directory of WFDB records with --data.")
        cohort = read_cohort(directory, FeatureCache(options.cache), show_track)
        settings = FitSettings()
        result = cross_validated(cohort, settings, FOLDS, show_track)
        points = operating_points(cohort.cases, settings, FOLDS, show_track)
        save_model(options.file, make(cohort, settings, result, points))
    except (ToolError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
