"""Windows of motion as the gateway's model sees them, labelled with what was done in their middle."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qepa_board.signals.motion import Motion
from qepa_gateway.inference.motion_windows import LENGTH, MIDDLE, RATE_HZ, resample, window
from qepa_tools.evaluation.cohort import Track
from qepa_tools.recordings.motion_set import FS_HZ, MotionRecord, load_motion
from qepa_uplink.readings import ACTIVITIES

DEVICES = {"sw": "watch at the wrist", "sp": "phone in the pocket"}
HOP = 5  # samples at RATE_HZ between two windows, a fifth of a second


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivitySet:
    """One person with one device. windows [n, 64, 4]: input of the model; activity_mg [n]: the board's own measure.

    classes: index into ACTIVITIES.
    """

    subject: str
    device: str
    windows: NDArray[np.float32]
    activity_mg: NDArray[np.int64]
    classes: NDArray[np.int64]


def activity_sets(directory: Path, track: Track, subjects: Sequence[str] = ()) -> list[ActivitySet]:
    """All subjects, or these, with each device."""
    found = []
    for device in track(list(DEVICES), "Motion"):
        records = load_motion(directory, device)
        for subject in sorted({record.subject for record in records}):
            if not subjects or subject in subjects:
                found.append(activity_set([record for record in records if record.subject == subject]))
    return found


def activity_set(records: Sequence[MotionRecord]) -> ActivitySet:
    """Windows of one person's records with one device."""
    windows, activity_mg, classes = [], [], []
    for record in records:
        g = resample(record.acceleration.T.astype(np.float32), FS_HZ)
        board = board_activity(record)
        for start in range(0, len(g) - LENGTH + 1, HOP):
            found = window(g[start : start + LENGTH])
            if found is None:
                continue
            windows.append(found[0])
            activity_mg.append(board[start + LENGTH - 1])
            label = str(record.labels[(start + MIDDLE) * FS_HZ // RATE_HZ])
            classes.append(ACTIVITIES.index(label.lower()))
    return ActivitySet(
        subject=records[0].subject,
        device=records[0].device,
        windows=np.array(windows, np.float32),
        activity_mg=np.array(activity_mg, np.int64),
        classes=np.array(classes, np.int64),
    )


def board_activity(record: MotionRecord) -> NDArray[np.int64]:
    """The board's measure ACTIVITY, in mg, after each sample at RATE_HZ."""
    step = FS_HZ // RATE_HZ
    board = Motion(FS_HZ)
    x, y, z = (axis.tolist() for axis in record.acceleration)
    told = []
    for end in range(step, len(x) + 1, step):
        board.push(x[end - step : end], y[end - step : end], z[end - step : end], step)
        told.append(board.activity_mg)
    return np.array(told, np.int64)
