"""The plots of an audit, as PNG."""

from collections.abc import Mapping
from io import BytesIO

from matplotlib.figure import Figure as Canvas
from PIL import Image

from .reconstruction import BATCHES
from .study import Audit, curve_fprs
from .tables import epsilon_name
from .worlds import Observer

_COLOURS = ("#1a1a1a", "#d55e00", "#e69f00", "#0072b2", "#009e73", "#999999")
_DPI = 100
_SHADES = 48


def draw_all(audit: Audit) -> Mapping[str, tuple[bytes, str]]:
    """Return name to PNG and caption."""
    ward = audit.settings[0].ward
    drawn = {
        "privacy_roc.png": (
            _roc(audit, ward),
            f"Members found against others called members ({ward}), both axes logarithmic; dashed: chance.",
        ),
        "privacy_reconstruction.png": (
            _reconstruction(audit),
            "Error of what is read, in shares of that of the mean of other people: 1 is nothing.",
        ),
    }
    if audit.bounds:
        drawn["privacy_epsilon.png"] = (
            _epsilon(audit),
            "Epsilon that the accountant claims, and lower bounds from a patient at the clipping bound (95 %).",
        )
    return drawn


def _png(canvas: Canvas) -> bytes:
    drawn, small = BytesIO(), BytesIO()
    canvas.savefig(drawn, format="png", dpi=_DPI)
    Image.open(drawn).convert("RGB").quantize(_SHADES).save(small, format="png", optimize=True)
    return small.getvalue()


def _roc(audit: Audit, ward: str) -> bytes:
    canvas = Canvas(figsize=(8, 7), layout="constrained")
    fprs = curve_fprs()
    for place, observer in enumerate(Observer):
        axes = canvas.add_subplot(2, 2, place + 1)
        attacks = [a for a in audit.attacks if a.ward == ward and a.observer is observer]
        for colour, attack in zip(_COLOURS, attacks, strict=False):
            axes.plot(
                fprs[1:],
                [max(tpr, 1e-5) for tpr in attack.curve[1:]],
                color=colour,
                linewidth=1.5,
                label=epsilon_name(attack.epsilon),
            )
        axes.plot([1e-4, 1], [1e-4, 1], "--", color="#999999", linewidth=1)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlim(1e-4, 1)
        axes.set_ylim(1e-4, 1.1)
        axes.set_title(observer.value, fontsize=9)
        axes.set_xlabel("others called members (FPR)", fontsize=8)
        axes.set_ylabel("members found (TPR)", fontsize=8)
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
        if place == 0:
            axes.legend(frameon=False, fontsize=8, loc="lower right")
    return _png(canvas)


def _reconstruction(audit: Audit) -> bytes:
    canvas = Canvas(figsize=(8, 3.4), layout="constrained")
    axes = canvas.add_subplot()
    names = [*(f"{n} beat{'s' * (n > 1)}" for n in BATCHES), "mean beat,\nhalf a minute", "label counts"]
    width = 0.8 / max(1, len(audit.reconstructions))
    for row, (colour, each) in enumerate(zip(_COLOURS[1:], audit.reconstructions, strict=False)):
        values = [*(each.beats[n] for n in BATCHES), each.mean_beat, each.label_counts]
        label = each.view.value + (f", epsilon {each.epsilon:g}" if each.epsilon else "")
        axes.bar([k + width * (row + 0.5) - 0.4 for k in range(len(names))], values, width, color=colour, label=label)
    axes.axhline(1.0, color="#999999", linewidth=1, linestyle="--")
    axes.set_xticks(range(len(names)), names, fontsize=8)
    axes.set_ylabel("error")
    axes.set_ylim(0, 1.45)
    axes.legend(frameon=False, fontsize=8, ncols=2, loc="upper left")
    axes.spines[["top", "right"]].set_visible(False)
    return _png(canvas)


def _epsilon(audit: Audit) -> bytes:
    canvas = Canvas(figsize=(8, 3), layout="constrained")
    axes = canvas.add_subplot()
    for k, each in enumerate(audit.bounds):
        for shift, value, colour, label in (
            (-0.25, each.claimed, _COLOURS[3], "accountant (upper bound)"),
            (0.0, each.lower.epsilon_gaussian, _COLOURS[1], "lower bound, Gaussian mechanism"),
            (0.25, each.lower.epsilon, _COLOURS[2], "lower bound, any mechanism"),
        ):
            axes.bar(k + shift, value, 0.24, color=colour, label=label if k == 0 else None)
            axes.text(k + shift, value, f"{value:.2f}", ha="center", va="bottom", fontsize=8)
    axes.set_xticks(range(len(audit.bounds)), [epsilon_name(each.epsilon) for each in audit.bounds])
    axes.set_ylabel("epsilon at delta 1e-6")
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    return _png(canvas)
