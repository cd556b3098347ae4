"""Figures of a link, drawn by matplotlib without a display. Colours are Okabe and Ito's, told apart by all eyes.

Figures of a stand-in say so inside the picture, because pictures travel without their page.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from io import StringIO
from math import isfinite, nan
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from qepa_qkd.finite_key import CurvePoint

from .monitor import BlockRecord

BLUE, ORANGE, GREEN, RED, PURPLE, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#777777"
_CURVES: Final = ((BLUE, "-"), (ORANGE, "--"), (GREEN, "-."), (PURPLE, ":"))
_RC: Final[dict[Any, Any]] = {
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 9,
}
SIMULATED: Final = "simulated bench"
_MOST_MARKED: Final = 300


def error_rates(blocks: Sequence[BlockRecord], threshold: float) -> Figure:
    """QBER of both bases over time; blocks without key are marked where they ended."""
    figure, axes = _figure()
    clock = _clock(axes, blocks)
    times = [clock(b.t) for b in blocks]
    for label, colour, marker, rates in (
        ("key basis", BLUE, "o", [b.qber_key for b in blocks]),
        ("test basis", ORANGE, "s", [b.qber_test for b in blocks]),
    ):
        values = [nan if rate is None else 100 * rate for rate in rates]  # nan: the line breaks
        axes.plot(times, values, _marker(marker, blocks), color=colour, ms=3.5, ls="-", lw=0.8, label=label)
    axes.axhline(100 * threshold, color=RED, lw=1.2, ls="--", label=f"no key above {100 * threshold:g} %")
    lost = [clock(b.t) for b in blocks if b.reason is not None]
    if lost:
        axes.plot(lost, [0.0] * len(lost), "x", color=RED, ms=7, mew=2, label="no key", clip_on=False, zorder=5)
    axes.set_ylabel("QBER (%)")
    _from_zero(axes)
    _say_simulated(axes, simulated=_any_simulated(blocks), at=(0.99, 0.55))
    _legend(axes.get_legend_handles_labels(), axes, 4)
    return figure


def key_rate(blocks: Sequence[BlockRecord], longest_s: float) -> Figure:
    """Secret bits a second of each block, and what has come together; pauses longer than `longest_s` are no rate."""
    figure, axes = _figure()
    clock = _clock(axes, blocks)
    rates = [(clock(b.t), b.key_bits / b.seconds) for b in blocks if b.seconds and b.seconds <= longest_s]
    if rates:
        axes.plot(
            *zip(*rates, strict=True), _marker("o", blocks), color=BLUE, ms=3.5, ls="-", lw=0.8, label="rate of a block"
        )
    axes.set_ylabel("secret key rate (bit/s)")
    _from_zero(axes)
    total, sums = 0, []
    for block in blocks:
        total += block.key_bits
        sums.append(total / 1e3)
    right = axes.twinx()
    right.plot([clock(b.t) for b in blocks], sums, color=GREEN, lw=1.5, ls="--", label="made in all (right)")
    right.set_ylabel("secret key made (kbit)")
    _from_zero(right)
    right.grid(visible=False)
    right.spines["right"].set_visible(True)
    right.spines["top"].set_visible(False)
    _say_simulated(axes, simulated=_any_simulated(blocks), at=(0.99, 0.04))
    (rate_handles, rate_labels), (sum_handles, sum_labels) = (x.get_legend_handles_labels() for x in (axes, right))
    _legend(([*rate_handles, *sum_handles], [*rate_labels, *sum_labels]), axes, 2)
    return figure


def against_loss(curves: Iterable[CurvePoint], measured: Sequence[tuple[float, float]], *, simulated: bool) -> Figure:
    """Key rate against loss: curves expected on the modelled channel, points (dB, bit/s) as measured."""
    figure, axes = _figure()
    points = list(curves)
    _draw(axes, points, [point.key_rate_bps for point in points])
    if measured:
        axes.plot(*zip(*measured, strict=True), "o", color=RED, ms=5, mec="white", mew=0.5, label="blocks, as measured")
    axes.set_yscale("log")
    axes.set_xlabel("loss from the transmitter's aperture to a click (dB)")
    axes.set_ylabel("secret key rate (bit/s)")
    _say_simulated(axes, simulated=simulated, at=(0.99, 0.92))
    _legend(axes.get_legend_handles_labels(), axes, 2)
    return figure


def finite_key(curves: Iterable[CurvePoint], measured: Sequence[tuple[float, float]], *, simulated: bool) -> Figure:
    """Secret bits per sifted bit against block size: expected curves, points as the passports have them."""
    figure, axes = _figure()
    points = list(curves)
    _draw(axes, points, [point.bits_per_sifted_bit for point in points])
    if measured:
        axes.plot(*zip(*measured, strict=True), "o", color=RED, ms=5, mec="white", mew=0.5, label="passports")
    axes.set_xscale("log")
    axes.set_xlabel("block size (sifted bits of the key basis)")
    axes.set_ylabel("secret bits per sifted bit")
    _from_zero(axes)
    _say_simulated(axes, simulated=simulated, at=(0.99, 0.04))
    _legend(axes.get_legend_handles_labels(), axes, 3)
    return figure


def where_bits_go(passport: dict[str, Any], *, simulated: bool) -> Figure:
    """One bar: the sifted bits of a block, split into what each part of the proof takes and the key."""
    bounds, sifted = passport["bounds"], sum(passport["counts"]["n_x"])
    costs = bounds["costs"]
    key = bounds["bits"]
    parts = [
        ("key", key, GREEN),
        ("phase error", costs["phase_error"], BLUE),
        ("error correction", costs["leak"], ORANGE),
        ("hashes and epsilons", costs["verification"] + costs["secrecy"], PURPLE),
    ]
    rest = sifted - sum(bits for _, bits, _ in parts)
    parts.insert(1, ("not proved to be single photons", rest, GREY))
    figure, axes = _figure(1.9)
    left = 0.0
    for name, bits, colour in parts:
        share = 100 * max(0.0, bits) / sifted
        axes.barh([0], [share], left=[left], color=colour, label=f"{name} {share:.1f} %", edgecolor="white")
        left += share
    axes.set_yticks([])
    axes.set_xlim(0, 100)
    axes.grid(visible=False)
    axes.set_xlabel("share of the sifted bits (%)" + (f"   [{SIMULATED}]" if simulated else ""))
    _legend(axes.get_legend_handles_labels(), axes, 3)
    return figure


def save(figure: Figure, path: Path) -> list[Path]:
    """Write `path` with .png and with .svg; returns both."""
    written = []
    with mpl.rc_context(_RC):
        for suffix in (".png", ".svg"):
            target = path.with_suffix(suffix)
            figure.savefig(target, dpi=150)
            written.append(target)
    return written


def svg(figure: Figure) -> str:
    """Return the figure as an SVG element for a page."""
    text = StringIO()
    with mpl.rc_context(_RC):
        figure.savefig(text, format="svg", metadata={"Date": None})
    whole = text.getvalue()
    return whole[whole.index("<svg") :]


def _figure(height: float = 3.4) -> tuple[Figure, Axes]:
    with mpl.rc_context(_RC):
        figure = Figure(figsize=(7.2, height), layout="constrained")
        return figure, figure.add_subplot()


def _say_simulated(axes: Axes, *, simulated: bool, at: tuple[float, float]) -> None:
    """Put the label where the plot is usually empty; `at` in parts of the axes."""
    if simulated:
        box = {"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 2.0}
        across = "right" if at[0] > 0.5 else "left"
        axes.text(*at, SIMULATED, transform=axes.transAxes, ha=across, color=GREY, style="italic", size=9, bbox=box)


def _clock(axes: Axes, blocks: Sequence[BlockRecord]) -> Any:
    """Return a function from Unix time to the axis, in the unit that suits its span, and label the axis."""
    first = blocks[0].t if blocks else 0.0
    span_s = blocks[-1].t - first if blocks else 0.0
    unit, divisor = next(
        ((name, size) for name, size in (("s", 1.0), ("min", 60.0), ("h", 3600.0)) if span_s <= 180 * size),
        ("d", 86400.0),
    )
    began = datetime.fromtimestamp(first, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    axes.set_xlabel(f"time since the first block, {began} ({unit})" if blocks else "time")
    return lambda t: (t - first) / divisor


def _draw(axes: Axes, points: Sequence[CurvePoint], values: Sequence[float]) -> None:
    names = list(dict.fromkeys(point.proof for point in points))
    for (colour, style), name in zip(_CURVES, names, strict=False):
        curve = [(p.at, v) for p, v in zip(points, values, strict=True) if p.proof == name and v > 0]
        if curve:
            axes.plot(*zip(*curve, strict=True), color=colour, ls=style, lw=1.6, label=f"{name}, expected")


def _marker(marker: str, blocks: Sequence[BlockRecord]) -> str:
    """Points are marked while they can be told apart."""
    return marker if len(blocks) <= _MOST_MARKED else ""


def _from_zero(axes: Axes) -> None:
    """Begin at zero, leave room above the highest point; without any, limits stay as they are."""
    highest = axes.dataLim.ymax
    if isfinite(highest):
        axes.set_ylim(0, max(1e-9, highest * 1.12))


def _any_simulated(blocks: Sequence[BlockRecord]) -> bool:
    return any(block.simulated for block in blocks)


def _legend(entries: tuple[list[Any], list[Any]], axes: Axes, columns: int) -> None:
    """Above the axes, where it hides nothing."""
    if entries[0]:
        axes.legend(*entries, ncols=columns, loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False, fontsize=9)
