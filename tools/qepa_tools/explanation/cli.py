"""``qepa explain``: why a beat of a recording got its class, or what the model looks at on the whole."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..command_line import JsonOption, fail, working
from ..errors import ToolError

if TYPE_CHECKING:
    from qepa_tools.recordings.board_beats import FeatureCache

_CACHE = Path.home() / ".cache" / "qepa" / "features"


def explain(
    *,
    data: Annotated[Path | None, typer.Option(help="Directory of WFDB records (default: MIT-BIH if found).")] = None,
    record: Annotated[str, typer.Option(help="Which record.")] = "",
    beat: Annotated[int | None, typer.Option(help="Which beat, counted from 1 as the board finds them.")] = None,
    at: Annotated[float | None, typer.Option(help="The beat nearest to so many seconds.")] = None,
    against: Annotated[
        str | None, typer.Option(help="Compare with this class (default: N, or for N the next likeliest).")
    ] = None,
    summary: Annotated[bool, typer.Option("--summary", help="Not one beat: what models look at, over people.")] = False,
    bedside: Annotated[
        bool, typer.Option("--bedside", help="The answer of the gateway's model instead of the board's.")
    ] = False,
    model: Annotated[
        str,
        typer.Option(
            help="`shipped` or a file. Default: shipped, unless it was trained on this person: then one is trained on "
            "the others of the directory. With --bedside a TFLite file, or the one that ships in any case."
        ),
    ] = "",
    lead: Annotated[str | None, typer.Option(help="Name of the record's lead.")] = None,
    mains: Annotated[int, typer.Option(help="Mains frequency where the data was recorded, Hz.")] = 60,
    out: Annotated[Path | None, typer.Option(help="Write a page (HTML) and its picture (PNG) there.")] = None,
    cache: Annotated[Path, typer.Option(help="Where computed features are kept.")] = _CACHE,
    as_json: JsonOption = False,
) -> None:
    """Say why a beat got its class, in clinical words: the first that is not called N, unless one is named."""
    from qepa_tools.recordings.board_beats import FeatureCache  # noqa: PLC0415  # commands load only what they need
    from qepa_tools.recordings.places import find_data  # noqa: PLC0415

    try:
        _check(record, beat, at, model, summary=summary, bedside=bedside)
        if mains not in (50, 60):
            raise ToolError(f"--mains has to be 50 or 60, not {mains}.")
        directory = find_data(data)
        if directory is None:
            raise ToolError("No recordings found: name a directory of WFDB records with --data.")
        kept = FeatureCache(cache)
        if summary:
            body, text, page = _summary(directory, kept, mains, out)
        else:
            body, text, page = _one(
                directory, record, model, kept, beat, at, against, lead, mains, out, bedside=bedside
            )
    except (ToolError, OSError) as error:
        fail(error)
    if as_json:
        print(json.dumps(body))
        return
    print(text)
    if page is not None:
        print(f"\n{page}")


def _check(record: str, beat: int | None, at: float | None, model: str, *, summary: bool, bedside: bool) -> None:
    if summary and (record or beat is not None or at is not None or model or bedside):
        raise ToolError(
            "--summary is about all records and trains the board's models: no --record, --beat, --at, --model, "
            "--bedside."
        )
    if not summary and not record:
        raise ToolError("Name a record with --record, or ask for --summary.")
    if beat is not None and at is not None:
        raise ToolError("Name the beat by --beat or by --at, not by both.")


def _one(
    directory: Path, record: str, model: str, cache: "FeatureCache", beat: int | None, at: float | None,
    against: str | None, lead: str | None, mains_hz: int, out: Path | None, *, bedside: bool,
) -> tuple[dict[str, Any], str, Path | None]:  # fmt: skip
    with working("loading"):
        from qepa_tools.evaluation.cli import show_track  # noqa: PLC0415

        from .page import write_beat  # noqa: PLC0415
        from .pictures import beat_picture  # noqa: PLC0415
        from .story import as_json, lines, read_setting, tell  # noqa: PLC0415

        read = read_setting
        if bedside:
            from .bedside_story import read_bedside as read  # noqa: PLC0415  # loads what runs the gateway's models
    setting = read(directory, record, model, cache, show_track, lead=lead, mains_hz=mains_hz)
    with working("explaining"):
        story = tell(setting, number=beat, at_s=at, rival=against)
        page = write_beat(story, beat_picture(story), out) if out is not None else None
        return as_json(story), "\n".join(lines(story)), page


def _summary(
    directory: Path, cache: "FeatureCache", mains_hz: int, out: Path | None
) -> tuple[dict[str, Any], str, Path | None]:
    from qepa_tools.evaluation.cli import show_track  # noqa: PLC0415
    from qepa_tools.evaluation.cohort import read_cohort  # noqa: PLC0415
    from qepa_tools.evaluation.cross_validation import FOLDS  # noqa: PLC0415

    from .expectation_table import expectation_table  # noqa: PLC0415
    from .page import write_summary  # noqa: PLC0415
    from .people import folds  # noqa: PLC0415
    from .summary import picture, summarise, table  # noqa: PLC0415

    cohort = read_cohort(directory, cache, show_track, mains_hz=mains_hz)
    made = folds(cohort.cases, FOLDS, show_track)
    found = summarise(made)
    tables = [table(found), expectation_table(made)]
    page = write_summary(tables, picture(found), out) if out is not None else None
    body = {
        "persons": found.persons,
        "left_out": dict(cohort.left_out),
        **{t.title: [dict(zip(t.columns, row, strict=True)) for row in t.rows] for t in tables},
    }
    return body, "\n\n".join(t.text() for t in tables), page
