"""``qepa evaluate``: beat classification on the people of any directory of WFDB records."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..command_line import JsonOption, bar, fail, working
from ..errors import ToolError

if TYPE_CHECKING:
    from qepa_tools.recordings.board_beats import FeatureCache

    from .cohort import Case, Cohort
    from .evaluate import Result

OWN = "cross-validate"
SHIPPED = "shipped"
CACHE = Path.home() / ".cache" / "qepa" / "features"


def evaluate(
    *,
    data: Annotated[Path | None, typer.Option(help="Directory of WFDB records (default: MIT-BIH if found).")] = None,
    records: Annotated[str, typer.Option(help="Only these, separated by commas.")] = "",
    model: Annotated[
        str,
        typer.Option(
            help="`shipped`, a file, or `cross-validate`: models trained here on other people. Default: shipped, "
            "unless it was trained on these people."
        ),
    ] = "",
    folds: Annotated[int, typer.Option(min=2, help="Of the cross-validation; as many as persons: one left out.")] = 10,
    lead: Annotated[
        str | None, typer.Option(help="Name of the lead (default: MLII, II, else the first in volts).")
    ] = None,
    annotator: Annotated[str, typer.Option(help="Suffix of the annotation files.")] = "atr",
    persons: Annotated[
        Path | None, typer.Option(help="File of lines `record,person`, where a person has several records.")
    ] = None,
    mains: Annotated[int, typer.Option(help="Mains frequency where the data was recorded, Hz.")] = 60,
    noise: Annotated[
        Path | None, typer.Option(help="Directory of the MIT-BIH Noise Stress records (default: nstdb beside DATA).")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write report.html and plots (PNG) there.")] = None,
    cache: Annotated[Path, typer.Option(help="Where computed features are kept.")] = CACHE,
    as_json: JsonOption = False,
) -> None:
    """Judge the board's beat classifier on people it was never trained on, split by patient always."""
    with working("loading"):
        from qepa_tools.recordings.board_beats import FeatureCache  # noqa: PLC0415  # commands load only what they need
        from qepa_tools.recordings.places import find_data  # noqa: PLC0415

        from .cohort import read_cohort, read_persons  # noqa: PLC0415
        from .report import document, tables, write_report  # noqa: PLC0415

    try:
        if mains not in (50, 60):
            raise ToolError(f"--mains has to be 50 or 60, not {mains}.")
        directory = find_data(data)
        if directory is None:
            raise ToolError("No recordings found: name a directory of WFDB records with --data.")
        kept = FeatureCache(cache)
        cohort = read_cohort(
            directory,
            kept,
            show_track,
            names=[name.strip() for name in records.split(",") if name.strip()],
            lead=lead,
            annotator=annotator,
            persons=read_persons(persons) if persons else None,
            mains_hz=mains,
        )
        noisy = _noisy(noise if noise is not None else directory.parent / "nstdb", kept, required=noise is not None)
        result = _judge(cohort, model, folds, noisy)
        page = write_report(result, out) if out is not None else None
    except (ToolError, OSError) as error:
        fail(error)
    if as_json:
        print(json.dumps(document(result)))
        return
    print("\n\n".join(table.text() for table in tables(result)))
    if page is not None:
        print(f"\n{page}")


def _judge(cohort: "Cohort", model: str, folds: int, noisy: "Sequence[tuple[Case, int]]") -> "Result":
    from .evaluate import cross_validated, noise_rows, noise_rows_of, of_model  # noqa: PLC0415
    from .fitting import FitSettings  # noqa: PLC0415
    from .model import SHIPPED as FILE  # noqa: PLC0415
    from .model import load_model, recording_digest  # noqa: PLC0415

    settings = FitSettings()
    if not model:
        trained_on = load_model(FILE).trained_on
        model = OWN if any(recording_digest(case.recording) in trained_on for case in cohort.cases) else SHIPPED
    if model == OWN:
        result = cross_validated(cohort, settings, folds, show_track)
        return replace(result, noise=noise_rows(cohort, noisy, settings))
    loaded = load_model(FILE if model == SHIPPED else Path(model))
    result = of_model(cohort, loaded, model)
    clean = [(case, level) for case, level in noisy if case.person not in loaded.card.get("persons", ())]
    return replace(result, noise=noise_rows_of(loaded, clean))


def _noisy(directory: Path, cache: "FeatureCache", *, required: bool) -> "list[tuple[Case, int]]":
    """Records of the Noise Stress database with their signal to noise ratios; none where they are not."""
    from qepa_tools.recordings.noise_stress import RECORDS, load_noise_stress  # noqa: PLC0415

    from .cohort import Case  # noqa: PLC0415

    there = [name for name in RECORDS if (directory / f"{name}.hea").is_file()]
    if required and not there:
        raise ToolError(f"{directory} holds none of the Noise Stress records {', '.join(RECORDS)}.")
    cases = []
    for name in show_track(there, "Noise stress"):
        recording = load_noise_stress(directory, name)
        cases.append((Case(recording, cache.beats(recording, recording.duration_s)), RECORDS[name]))
    return cases


def show_track(items: Sequence[Any], what: str) -> Iterator[Any]:
    """Show how far it is, on standard error: the tables are standard output."""
    yield from bar(items, what)
