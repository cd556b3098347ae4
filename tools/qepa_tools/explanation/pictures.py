"""Pictures of explanations, as PNG."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from textwrap import fill

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from qepa_server.explain.vocabulary import vocabulary
from qepa_tools.explanation.story import Story, clock, margin, signed
from qepa_tools.recordings.recording import ADC_MID, ADC_UNITS_PER_MV

Floats = NDArray[np.float64]

_FOR, _AGAINST = "#d55e00", "#0072b2"
_INK, _FAINT = "#1a1a1a", "#9a9a9a"
_DPI = 100
_REACH_S = 1.3
_TEXT_S = 0.35  # a bar as long has room for its length in words
_USUAL = 20  # beats called N whose median is drawn as the usual one
_SHADE = 0.55
_POINTS = 500  # of a class in the summary
_LINE = 60  # characters of a reason


def beat_picture(story: Story) -> bytes:
    """The beat among its neighbours, its parts coloured by what they contribute, and the reasons as bars."""
    figure = Figure(figsize=(8, 5.8), layout="constrained")
    parts = figure.subfigures(2, 1, squeeze=False, height_ratios=(1.3, 1.2))[:, 0]
    _waveform(parts[0].subplots(), story)
    _bars(parts[1].subplots(), story)
    return png(figure)


def _waveform(axes: Axes, story: Story) -> None:
    case, why = story.setting.case, story.why
    fs_hz, samples = case.recording.fs_hz, case.beats.samples
    r = int(samples[story.number - 1])
    reach = round(_REACH_S * fs_hz)
    start, end = max(0, r - reach), min(len(case.recording.samples), r + reach)
    millivolt = _millivolt(case.recording.samples[start:end].astype(float))
    usual_t, usual = _usual_beat(story)
    low, high = float(min(millivolt.min(), usual.min())), float(max(millivolt.max(), usual.max()))
    span = max(high - low, 0.1)
    strongest = max(1.0, *(abs(value) for value in why.parts.values()))
    for part, (left, right, aligned) in story.setting.segments.items():
        value = why.parts.get(part, 0.0)
        shade = _SHADE * abs(value) / strongest
        axes.axvspan(left / 1000, right / 1000, color=_colour(value), alpha=shade, linewidth=0)
        place = {"right": right - 20, "center": (left + right) / 2, "left": left}[aligned] / 1000
        axes.text(place, high + 0.06 * span, f"{part} {signed(value)}", ha=aligned, fontsize=8)
    axes.plot(usual_t, usual, color=_FAINT, linewidth=1, linestyle="--", label="this patient's usual beat")
    axes.plot(np.arange(start - r, end - r) / fs_hz, millivolt, color=_INK, linewidth=1.1)
    _intervals(axes, story, low - 0.14 * span)
    axes.set_ylim(low - 0.3 * span, high + 0.2 * span)
    axes.set_xlim(-_REACH_S, _REACH_S)
    axes.set_ylabel("mV")
    axes.set_xlabel("seconds from the R peak", fontsize=9)
    axes.legend(frameon=False, fontsize=8, loc="upper right")
    said = f"called {why.answer}, annotated {story.annotated}. Why {why.answer} and not {why.rival}"
    axes.set_title(f"Record {case.recording.id}, {clock(story.at_s)}: {said}", fontsize=10, loc="left")
    axes.spines[["top", "right"]].set_visible(False)


def _usual_beat(story: Story) -> tuple[Floats, Floats]:
    """Seconds and median of the beats called N that are nearest to this one."""
    case, place = story.setting.case, story.number - 1
    fs_hz, samples = case.recording.fs_hz, case.beats.samples
    left, right = round(0.3 * fs_hz), round(0.45 * fs_hz)
    normal = np.flatnonzero(story.setting.answers == 0)
    inside = (samples[normal] >= left) & (samples[normal] + right < len(case.recording.samples))
    normal = normal[inside & (normal != place)]
    t = np.arange(-left, right) / fs_hz
    if not len(normal):
        return t[:1], np.zeros(1)
    nearest = normal[np.argsort(np.abs(normal - place), kind="stable")[:_USUAL]]
    stack = np.array([case.recording.samples[samples[k] - left : samples[k] + right] for k in nearest], dtype=float)
    return t, _millivolt(np.median(stack, axis=0))


def _intervals(axes: Axes, story: Story, level: float) -> None:
    """Bars between R peaks, the two about the beat coloured by what RR contributes."""
    case, place = story.setting.case, story.number - 1
    samples, fs_hz = case.beats.samples, case.recording.fs_hz
    value = story.why.parts.get("RR", 0.0)
    shade = max(0.25, abs(value) / max(1.0, *(abs(part) for part in story.why.parts.values())))
    for k in range(max(0, place - 4), min(len(samples) - 1, place + 4)):
        left, right = ((samples[j] - samples[place]) / fs_hz for j in (k, k + 1))
        own = k in (place - 1, place)
        colour = _colour(value) if own else _FAINT
        axes.plot([left, right], [level, level], color=colour, linewidth=4 if own else 1.5,
                  alpha=shade if own else 1)  # fmt: skip
        axes.plot([left, right], [level, level], "|", color=_INK, markersize=9)
        shown = min(right, _REACH_S) - max(left, -_REACH_S)
        if shown > _TEXT_S:
            middle = (max(left, -_REACH_S) + min(right, _REACH_S)) / 2
            text = f"RR {round(1000 * (right - left))} ms"
            axes.annotate(text, (middle, level), (0, -12), textcoords="offset points", ha="center", fontsize=8,
                          color=_INK if own else _FAINT)  # fmt: skip
    axes.annotate(f"RR {signed(value)}", (0, level), (0, 5), textcoords="offset points", ha="center", fontsize=8)


def _bars(axes: Axes, story: Story) -> None:
    why = story.why
    shown = [*why.strongest(speaking_for=True), *why.strongest(speaking_for=False)[::-1]]
    values = [reason.contribution for reason in shown]
    errors = [reason.error or 0.0 for reason in shown]
    axes.barh(range(len(shown)), values, color=[_colour(value) for value in values], height=0.62)
    axes.errorbar(values, range(len(shown)), xerr=errors, fmt="none", ecolor=_INK, elinewidth=1,
                  capsize=2 if any(errors) else 0)  # fmt: skip
    ends = [value + (error if value > 0 else -error) for value, error in zip(values, errors, strict=True)]
    for k, (end, reason) in enumerate(zip(ends, shown, strict=True)):
        axes.text(end, k, f" {margin(reason)} ", ha="left" if end > 0 else "right", va="center", fontsize=8)
    widest = max([1.0, *(abs(end) for end in ends)])
    axes.axvline(0, color=_INK, linewidth=0.8)
    axes.set_xlim(min([0.0, *ends]) - 0.25 * widest, max([0.0, *ends]) + 0.25 * widest)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.set_yticks(range(len(shown)), [fill(reason.phrase, _LINE) for reason in shown], fontsize=8)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(f"{why.unit} for {why.answer} (orange), for {why.rival} (blue)", fontsize=9)
    axes.spines[["top", "right", "left"]].set_visible(False)


def swarm_picture(
    panels: Mapping[str, tuple[Floats, Floats]], names: Sequence[str], strongest: int = 8, seed: int = 1
) -> bytes:
    """For each class the contributions of its strongest features, a dot a beat, coloured by the feature's value.

    panels: title to contributions [beats, features] and values [beats, features].
    """
    rng = np.random.default_rng(seed)
    figure = Figure(figsize=(8, 0.6 + 2.4 * len(panels)), layout="constrained")
    grid = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
    colours = colormaps["coolwarm"]
    for axes, (title, (contributions, values)) in zip(grid, panels.items(), strict=True):
        order = np.argsort(-np.abs(contributions).mean(axis=0), kind="stable")[:strongest]
        chosen = rng.permutation(len(values))[:_POINTS]
        for line, feature in enumerate(order):
            x, value = contributions[chosen, feature], values[chosen, feature]
            low, high = np.quantile(values[:, feature], [0.02, 0.98])
            axes.scatter(x, line + _spread(x), c=colours(Normalize(low, max(high, low + 1e-9), clip=True)(value)), s=3,
                         linewidths=0)  # fmt: skip
        axes.axvline(0, color=_FAINT, linewidth=0.8)
        axes.set_yticks(range(len(order)), [names[k] for k in order], fontsize=8)
        axes.set_ylim(len(order) - 0.4, -0.6)
        axes.set_title(title, fontsize=10, loc="left")
        axes.spines[["top", "right"]].set_visible(False)
    grid[-1].set_xlabel("contribution in logits; blue: low value of the feature, red: high", fontsize=9)
    return png(figure)


def _spread(x: Floats) -> Floats:
    """Push dots of about the same x apart, up and down by turns."""
    offsets = np.zeros(len(x))
    bins = np.round(120 * (x - x.min()) / max(float(np.ptp(x)), 1e-9)).astype(int)
    for b in np.unique(bins):
        members = np.flatnonzero(bins == b)
        steps = np.arange(len(members))
        offsets[members] = np.where(steps % 2, 1, -1) * ((steps + 1) // 2)
    most = max(float(np.abs(offsets).max()), 1.0)
    spread: Floats = offsets * min(0.03, 0.38 / most)
    return spread


def part_of(name: str) -> str:
    """Parts of the heart beat that a feature looks at, for tables."""
    return "+".join(vocabulary()[name].parts)


def png(figure: Figure) -> bytes:
    """The figure as PNG of at most 128 colours, a third of the size that all colours take."""
    drawn, packed = BytesIO(), BytesIO()
    figure.savefig(drawn, format="png", dpi=_DPI)
    with Image.open(drawn) as image:
        image.convert("RGB").quantize(128).save(packed, format="PNG", optimize=True)
    return packed.getvalue()


def _millivolt(adc: Floats) -> Floats:
    return (adc - ADC_MID) / ADC_UNITS_PER_MV


def _colour(value: float) -> str:
    return _FOR if value > 0 else _AGAINST
