"""The plots of an evaluation, as PNG."""

from io import BytesIO

import numpy as np
from matplotlib.figure import Figure as Canvas

from qepa_tools.evaluation.evaluate import Result
from qepa_tools.evaluation.figures import N_CLASSES, figures
from qepa_tools.recordings.recording import AAMI_CLASSES

_COLOURS = ("#0072b2", "#e69f00", "#d55e00", "#999999")
_DPI = 110


def draw_all(result: Result) -> dict[str, tuple[bytes, str]]:
    """Name to PNG and caption."""
    drawn = {
        "classes": (
            _classes(result),
            "Sensitivity and PPV on people never trained on; bars: 95 %, bootstrap over persons.",
        ),
        "confusion": (_confusion(result), "Answers in percent of the annotated beats of a class."),
        "records": (_records(result), "Accuracy of each record: the mean hides people on whom the model fails."),
        "calibration": (
            _calibration(result),
            "Probability given and share that was so; a perfect model is on the line.",
        ),
    }
    delays = [delay for of in result.alarms.values() for delay in of.delays_s]
    if delays:
        drawn["time_to_alarm"] = (_delays(delays), "Seconds from a ventricular run's third beat to the alarm.")
    if len(result.noise) > 1:
        drawn["noise"] = (_noise(result), "Electrode motion added to a record of a person never trained on.")
    return drawn


def _png(canvas: Canvas) -> bytes:
    buffer = BytesIO()
    canvas.savefig(buffer, format="png", dpi=_DPI)
    return buffer.getvalue()


def _classes(result: Result) -> bytes:
    canvas = Canvas(figsize=(7, 3.2), layout="constrained")
    axes = canvas.add_subplot()
    for shift, (figure, values) in enumerate(
        (("sensitivity", result.overall.sensitivity), ("ppv", result.overall.ppv))
    ):
        for c, value in enumerate(values):
            if value is None:
                continue
            place = c + 0.22 * (2 * shift - 1)
            name = {"sensitivity": "sensitivity", "ppv": "PPV"}[figure] if c == 0 else None
            axes.bar(place, 100 * value, 0.4, color=_COLOURS[shift], label=name)
            interval = result.intervals[f"{AAMI_CLASSES[c]} {figure}"]
            if interval is not None:
                axes.plot([place, place], [100 * interval.low, 100 * interval.high], color="#1a1a1a", linewidth=1.5)
    axes.set_xticks(range(N_CLASSES), AAMI_CLASSES)
    axes.set_ylim(0, 102)
    axes.set_ylabel("%")
    axes.legend(frameon=False, loc="upper right")
    axes.spines[["top", "right"]].set_visible(False)
    return _png(canvas)


def _confusion(result: Result) -> bytes:
    counts = result.counts[:N_CLASSES].astype(float)
    shares = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    canvas = Canvas(figsize=(5.2, 3.6), layout="constrained")
    axes = canvas.add_subplot()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=100, aspect="auto")
    for row in range(N_CLASSES):
        for column in range(N_CLASSES + 1):
            colour = "white" if shares[row, column] > 60 else "#1a1a1a"
            text = f"{shares[row, column]:.1f} %\n{int(counts[row, column]):,}"
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)
    axes.set_xticks(range(N_CLASSES + 1), [*AAMI_CLASSES, "not found"])
    axes.set_yticks(range(N_CLASSES), AAMI_CLASSES)
    axes.set_xlabel("answer")
    axes.set_ylabel("annotated")
    return _png(canvas)


def _records(result: Result) -> bytes:
    values = sorted(
        (accuracy, name)
        for name, counts in result.records.items()
        if (accuracy := figures(counts).accuracy) is not None
    )
    canvas = Canvas(figsize=(7, 1.2 + 0.19 * len(values)), layout="constrained")
    axes = canvas.add_subplot()
    axes.barh(range(len(values)), [100 * value for value, _ in values], color=_COLOURS[0])
    axes.set_yticks(range(len(values)), [name for _, name in values], fontsize=8)
    axes.set_xlim(0, 100)
    axes.set_ylim(-0.7, len(values) - 0.3)
    axes.set_xlabel("accuracy of beats found, %")
    axes.spines[["top", "right"]].set_visible(False)
    return _png(canvas)


def _calibration(result: Result) -> bytes:
    canvas = Canvas(figsize=(5, 4.2), layout="constrained")
    axes = canvas.add_subplot()
    axes.plot([0, 100], [0, 100], color="#bbbbbb", linewidth=1)
    for colour, (name, of) in zip(("#1a1a1a", *_COLOURS), result.calibration.items(), strict=False):
        points = [
            (100 * p, 100 * f, n)
            for p, f, n in zip(of.probability, of.frequency, of.beats, strict=True)
            if p is not None and f is not None and n >= 10
        ]
        title = "answer given" if name == "answer" else name
        ece = "" if of.ece is None else f", ECE {100 * of.ece:.1f} %"
        axes.plot([p for p, _, _ in points], [f for _, f, _ in points], "o-", color=colour, label=title + ece)
    axes.set_xlabel("probability given by the model, %")
    axes.set_ylabel("share that was so, %")
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    return _png(canvas)


def _delays(delays: list[float]) -> bytes:
    canvas = Canvas(figsize=(6, 2.8), layout="constrained")
    axes = canvas.add_subplot()
    axes.hist(delays, bins=20, color=_COLOURS[0])
    axes.set_xlabel("seconds to alarm")
    axes.set_ylabel("runs")
    axes.spines[["top", "right"]].set_visible(False)
    return _png(canvas)


def _noise(result: Result) -> bytes:
    canvas = Canvas(figsize=(6, 3.2), layout="constrained")
    axes = canvas.add_subplot()
    decibel = [row.decibel for row in result.noise]
    for colour, name, values in (
        (_COLOURS[0], "accuracy in noise", [row.noisy.accuracy for row in result.noise]),
        (_COLOURS[2], "found beats that are beats (PPV)", [row.noisy.detection_ppv for row in result.noise]),
        (_COLOURS[3], "accuracy between", [row.between.accuracy for row in result.noise]),
    ):
        points = [(d, 100 * v) for d, v in zip(decibel, values, strict=True) if v is not None]
        axes.plot([d for d, _ in points], [v for _, v in points], "o-", color=colour, label=name)
    axes.invert_xaxis()
    axes.set_ylim(0, 102)
    axes.set_xlabel("signal to noise ratio, dB")
    axes.set_ylabel("%")
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    return _png(canvas)
