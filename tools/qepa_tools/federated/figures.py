"""Curves of courses of learning, as PNG."""

from collections.abc import Sequence
from io import BytesIO
from typing import Any

from .curves import Curve

_SIZE, _DPI = (8.0, 3.4), 100
_LEFT_OUT = ("LightHE, trimmed mean", "LightHE, bounds (default)")  # they hide one another
PER_ATTACK = 4  # curves of an attack: each rule without and with a budget
_CAPTION = "people never trained on, MIT-BIH; simulated ward of 200 boards"


def protection_figure(found: Sequence[Curve]) -> bytes:
    """Accuracy and macro F1 by round for each protection, from zeros (dashed) and from a model (full)."""
    figure, panels = _panels()
    names = list(dict.fromkeys(curve.course.name for curve in found))
    for curve in found:
        course = curve.course
        if course.name in _LEFT_OUT or (course.epsilon and course.rounds != _longest(found, course.name)):
            continue
        style = {
            "color": f"C{names.index(course.name)}",
            "linestyle": "-" if course.start else "--",
            "linewidth": 3 if course.name == "FedAvg" else 1.3,
            "alpha": 0.45 if course.name == "FedAvg" else 1.0,
        }
        _draw(panels, curve, f"{course.name}{'' if course.start else ', from zeros'}", style)
    panels[0].set_ylim(0.78, 0.98)
    return _png(figure, panels, f"Protection: {_CAPTION}")


def start_figure(found: Sequence[Curve]) -> bytes:
    """Accuracy and macro F1 by round for each start and decay."""
    figure, panels = _panels()
    for number, curve in enumerate(found):
        _draw(panels, curve, curve.course.name, {"color": f"C{number}"})
    alone = found[-1]
    for panel, value in zip(panels, (alone.accuracy(0), alone.macro_f1(0)), strict=True):
        panel.axhline(value, color="grey", linewidth=1, linestyle=":")
    panels[0].set_ylim(0.88, 0.98)
    return _png(figure, panels, f"Starts (dotted: the model of other people alone): {_CAPTION}")


def hostile_figure(found: Sequence[Curve]) -> bytes:
    """Macro F1 by share of hostile boards, one line for each attack: trimmed mean, plain mean, epsilon 8."""
    figure, _ = _panels()
    figure.clf()
    panels = figure.subplots(1, 3, sharey=True)
    honest = found[:PER_ATTACK]
    attacks = list(dict.fromkeys(curve.course.attack for curve in found if curve.course.share))
    for place, (panel, title) in enumerate(
        zip(panels, ("trimmed mean", "plain mean", "trimmed mean, epsilon 8"), strict=True)
    ):
        for attack in attacks:
            own = [honest[place], *(curve for curve in found[place::PER_ATTACK] if curve.course.attack is attack)]
            points = [(100 * curve.course.share, curve.macro_f1()) for curve in own]
            panel.plot(*zip(*points, strict=True), marker="o", markersize=3, label=attack.value)
        panel.axhline(honest[0].macro_f1(0), color="grey", linewidth=1, linestyle=":")
        panel.set_title(title, fontsize=8)
        panel.set_xlabel("hostile boards (%)", fontsize=8)
    panels[0].set_ylabel("macro F1 (N, S, V)", fontsize=8)
    return _png(figure, panels, f"Hostile boards (dotted: the start alone): {_CAPTION}")


def _longest(found: Sequence[Curve], name: str) -> int:
    return max(curve.course.rounds for curve in found if curve.course.name == name)


def _panels() -> tuple[Any, Any]:
    from matplotlib.figure import Figure  # noqa: PLC0415  # takes a second to load

    figure = Figure(figsize=_SIZE, dpi=_DPI, layout="constrained")
    panels = figure.subplots(1, 2)
    for panel, name in zip(panels, ("accuracy", "macro F1 (N, S, V)"), strict=True):
        panel.set_ylabel(name, fontsize=8)
        panel.set_xlabel("round", fontsize=8)
    return figure, panels


def _draw(panels: Any, curve: Curve, label: str, style: dict[str, Any]) -> None:
    rounds = range(curve.course.rounds + 1)
    panels[0].plot(rounds, [curve.accuracy(k) for k in rounds], label=label, **style)
    panels[1].plot(rounds, [curve.macro_f1(k) for k in rounds], **style)


def _png(figure: Any, panels: Any, title: str) -> bytes:
    from PIL import Image  # noqa: PLC0415  # matplotlib brings it

    for panel in panels:
        panel.tick_params(labelsize=7)
        panel.grid(visible=True, alpha=0.3)
    figure.suptitle(title, fontsize=8)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=6.5)
    drawn, target = BytesIO(), BytesIO()
    figure.savefig(drawn, format="png")
    # 64 colours are enough for lines, and a third of the bytes.
    Image.open(drawn).convert("RGB").quantize(64).save(target, format="png", optimize=True)
    return target.getvalue()
