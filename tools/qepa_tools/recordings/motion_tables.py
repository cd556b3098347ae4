"""Steps, activity and posture of the board on labelled and on long recordings."""

from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qepa_board.signals.motion import MOVING_MG, Motion
from qepa_tools.recordings.motion_set import FS_HZ, MotionRecord, load_motion
from qepa_tools.recordings.peak_tables import Track
from qepa_tools.recordings.pulse_tables import CHOSEN_ON
from qepa_tools.recordings.table import Table, number, percent
from qepa_tools.recordings.wrist_ppg import FS_HZ as WRIST_HZ
from qepa_tools.recordings.wrist_ppg import WristRecord, load_wrist
from qepa_wire.measures import POSTURE, POSTURES

DEVICES = {"sw": "watch at the wrist", "sp": "phone in the pocket"}
LABELS = ("SEATED", "STANDING_UP", "WALKING", "TURNING", "SITTING_DOWN")

_BLOCK = 10
_SETTLE = 2 * FS_HZ
_WINDOW_S = 10
_CADENCE_HZ = (1.2, 3.4)  # of walking and running, for the reference
_SPLIT = "Constants were chosen on subjects of odd number; reported are those of even number."


def motion_tables(motion: Path, wrist: Path, track: Track) -> list[Table]:
    """Labelled short executions, then minutes of exercise."""
    records = {device: [r for r in load_motion(motion, device) if r.reported] for device in DEVICES}
    subjects = len({record.subject for record in records["sw"]})
    rows = [_label_row(device, records[device]) for device in track(list(DEVICES), "Motion")]
    return [
        Table(
            title=f"Labelled movements of {subjects} subjects: steps a second, and share of time called moving, %",
            columns=["sensor", *(f"{name.lower()} {what}" for name in LABELS for what in ("steps/s", "moving"))],
            rows=rows,
            notes=[
                f"Moving: mean dynamic acceleration above {MOVING_MG} mg. An execution is 11 s, walks are 2 s; three "
                f"steps in a row make a walk, so its first steps fall where the third is. {_SPLIT}"
            ],
        ),
        _agreement_table(records),
        _posture_table(records["sp"]),
        _cadence_table(load_wrist(wrist), track),
    ]


def _follow(record: MotionRecord, mounting: Sequence[tuple[int, int, int]] = ()) -> Iterator[tuple[int, Motion]]:
    """Push a record block by block; yields the sample number reached and the board's state."""
    board = Motion(FS_HZ, *mounting)
    for end in _push(board, record.acceleration, _BLOCK):
        yield end - 1, board


def _push(board: Motion, acceleration: NDArray[np.int32], block: int) -> Iterator[int]:
    """Push all, block by block; yields how many samples have gone in."""
    x, y, z = (array("i", np.ascontiguousarray(axis).tobytes()) for axis in acceleration)
    for end in range(block, len(x) + 1, block):
        board.push(x[end - block : end], y[end - block : end], z[end - block : end], block)
        yield end


def _label_row(device: str, records: Sequence[MotionRecord]) -> list[str]:
    blocks = dict.fromkeys(LABELS, 0)
    settled = dict.fromkeys(LABELS, 0)
    moving = dict.fromkeys(LABELS, 0)
    steps = dict.fromkeys(LABELS, 0)
    for record in records:
        before = 0
        still = True
        for sample, board in _follow(record):
            label = str(record.labels[sample])
            blocks[label] += 1
            steps[label] += board.steps - before
            before = board.steps
            still = still and label == "SEATED"
            # Seated is counted before anything else happened: what comes after sitting down is landing.
            if still if label == "SEATED" else sample >= _SETTLE:
                settled[label] += 1
                moving[label] += board.moving
    row = [DEVICES[device]]
    for label in LABELS:
        row += [number(steps[label] / (blocks[label] * _BLOCK / FS_HZ), 2), percent(moving[label], settled[label], 0)]
    return row


def _agreement_table(records: dict[str, list[MotionRecord]]) -> Table:
    """The same walk counted at two places of the body: neither is the truth."""
    counted = {
        device: {record.name: list(_follow(record))[-1][1].steps for record in chosen}
        for device, chosen in records.items()
    }
    rows = []
    for subject in sorted({record.subject for record in records["sw"]}):
        names = sorted(n for n in counted["sw"] if n.startswith(subject) and n in counted["sp"])
        watch, phone = ([counted[device][name] for name in names] for device in ("sw", "sp"))
        difference = float(np.mean(np.abs(np.subtract(watch, phone))))
        rows.append([subject, str(len(names)), str(sum(watch)), str(sum(phone)), number(difference)])
    return Table(
        title="Steps of the same walks counted at the wrist and in the pocket",
        columns=["subject", "walks", "watch", "phone", "mean difference of a walk"],
        rows=rows,
        notes=["The set has no step counts: this shows agreement, not truth. " + _SPLIT],
    )


def _posture_table(records: Sequence[MotionRecord]) -> Table:
    """A phone on a seated person's thigh lies; which side is up follows from how it is worn."""
    rows = []
    for orientation, expected in (("back_inv", "prone"), ("front", "supine")):
        told: list[str] = []
        for record in records:
            if record.orientation != orientation:
                continue
            for sample, board in _follow(record, ((0, 1, 0), (0, 0, 1))):
                if record.labels[sample] != "SEATED" or sample >= _SETTLE:
                    break
                told.append(_posture_now(board))
        rows.append([orientation, expected, str(len(told)), percent(told.count(expected), len(told))])
    return Table(
        title="Posture: a phone on the thigh of a seated person",
        columns=["worn", "expected", "tenths of a second", "right %"],
        rows=rows,
        notes=[
            "Gravity only: no set here has a labelled sensor on the chest; postures of the body are tested with turned "
            "gravity. " + _SPLIT
        ],
    )


def _posture_now(board: Motion) -> str:
    code, _, value = board.posture()
    assert code == POSTURE  # noqa: S101
    return POSTURES[value]


def _cadence_table(records: Sequence[WristRecord], track: Track) -> Table:
    by_name = {record.name: record for record in records if record.person != CHOSEN_ON}
    rows = []
    for name in track(list(by_name), "Steps"):
        record = by_name[name]
        board = Motion(WRIST_HZ)
        seconds = len(list(_push(board, record.acceleration, WRIST_HZ)))
        on_foot = record.exercise in ("walk", "run")
        expected = _spectral_steps(record.acceleration) if on_foot else 0.0
        error = number(100 * (board.steps - expected) / expected) if on_foot else "-"
        rows.append([name, str(seconds), str(board.steps), f"{expected:.0f}" if on_foot else "0", error])
    return Table(
        title="Steps counted at the wrist during exercise",
        columns=["wrist_ppg", "seconds", "steps", "reference", "error %"],
        rows=rows,
        notes=[
            f"Reference: the strongest frequency from {_CADENCE_HZ[0]} to {_CADENCE_HZ[1]} Hz of each {_WINDOW_S} s, "
            f"which is no count; on a bicycle there are none. Constants were chosen on {CHOSEN_ON}, who is not shown."
        ],
    )


def _spectral_steps(acceleration: NDArray[np.int32]) -> float:
    size = np.linalg.norm(acceleration, axis=0)
    span = _WINDOW_S * WRIST_HZ
    points = 1 << 14
    frequencies = np.fft.rfftfreq(points, 1 / WRIST_HZ)
    band = (frequencies > _CADENCE_HZ[0]) & (frequencies < _CADENCE_HZ[1])
    steps = 0.0
    for start in range(0, len(size) - span + 1, span):
        part = size[start : start + span]
        power = np.abs(np.fft.rfft((part - part.mean()) * np.hanning(span), points))
        steps += _WINDOW_S * float(frequencies[band][power[band].argmax()])
    return steps * (len(size) / span) / max(1, len(size) // span)
