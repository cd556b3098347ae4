"""An explanation as one HTML page, its pictures inside."""

from collections.abc import Sequence
from pathlib import Path

from qepa_tools.explanation.story import METHOD, Story, clock, margin, signed, warnings
from qepa_tools.recordings.recording import AAMI_CLASSES
from qepa_tools.recordings.table import Table
from qepa_tools.report_page import illustration, page, paragraph, section

_NOTE = (
    "Not a medical device. This says what the model's answer rests on, not whether it is right, and not what causes "
    "what in the heart. "
)


def write_beat(story: Story, picture: bytes, directory: Path) -> Path:
    """Write the page and the picture of a beat into a directory, made if it is not there; returns the page's path."""
    setting = story.setting
    name = f"{setting.case.recording.id}-{story.number}" + ("" if setting.measured_by == "board" else "-bedside")
    why = story.why
    title = f"Record {story.setting.case.recording.id}, beat {story.number} at {clock(story.at_s)}: {why.answer}"
    chances = ", ".join(f"{class_} {100 * p:.0f} %" for class_, p in why.probabilities.items())
    others = [_against_n(story, class_) for class_ in AAMI_CLASSES[1:3]]
    table = Table(
        title=f"Why {why.answer} and not {why.rival}",
        columns=[
            f"what the {setting.measured_by} measured",
            "feature",
            f"for {why.answer}, not {why.rival}",
            "S, not N",
            "V, not N",
        ],
        rows=[[r.phrase, r.feature, margin(r), *(signed(other[r.feature]) for other in others)] for r in why.reasons],
        notes=[
            f"In {why.unit}. An average beat of the background starts at {signed(why.start)}, this one ends at "
            f"{signed(why.lead)}: above 0 {why.answer} is likelier than {why.rival}."
        ],
    )
    said = [
        f"Annotated {story.annotated}. Probabilities, not calibrated: {chances}.",
        f"By {story.setting.how}. Compared with {story.setting.compared}.",
    ]
    warned = [*warnings(story), _NOTE + setting.method]
    return _write(directory, name, title, said, warned, picture, [table])


def write_summary(tables: Sequence[Table], picture: bytes, directory: Path) -> Path:
    """Write the page and the picture of what models look at on the whole."""
    return _write(directory, "summary", "What the beat classifier looks at", [], [_NOTE + METHOD], picture, tables)


def _against_n(story: Story, class_: str) -> dict[str, float]:
    found = story.why.contributions
    c = AAMI_CLASSES.index(class_)
    return dict(zip(story.setting.names, found[c] - found[0], strict=True))


def _write(
    directory: Path, name: str, title: str, said: Sequence[str], warned: Sequence[str], picture: bytes,
    tables: Sequence[Table],
) -> Path:  # fmt: skip
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"{name}.png").write_bytes(picture)
    parts = [paragraph(text) for text in said] + [paragraph(text, note=True) for text in warned]
    file = directory / f"{name}.html"
    file.write_text(page(title, [*parts, illustration(picture, title), *map(section, tables)]), encoding="utf-8")
    return file
