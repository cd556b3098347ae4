"""The figures of the board's signal processing, from recordings: `python -m qepa_tools.recordings.study --help`.

Every figure comes from the board's own code run on CPython. The people on whom a constant was chosen are left out, or
the table says so.
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import track

from qepa_tools.errors import ToolError
from qepa_tools.recordings.glucose_tables import glucose_tables
from qepa_tools.recordings.motion_tables import motion_tables
from qepa_tools.recordings.peak_detectors import PeakCache
from qepa_tools.recordings.peak_tables import arrhythmia_tables, noise_tables
from qepa_tools.recordings.places import find_sets
from qepa_tools.recordings.pulse_tables import pulse_tables, saturation_tables
from qepa_tools.recordings.respiration_tables import respiration_tables
from qepa_tools.recordings.table import Table


def _peaks(sets: Path, options: argparse.Namespace) -> list[Table]:
    cache = PeakCache(options.cache)
    return noise_tables(sets / "nstdb", cache, _track) + arrhythmia_tables(
        sets / "mitdb", cache, options.minutes, _track
    )


_TABLES: dict[str, Callable[[Path, argparse.Namespace], list[Table]]] = {
    "peaks": _peaks,
    "pulse": lambda sets, _: pulse_tables(sets / "bidmc", sets / "wrist_ppg", _track),
    "spo2": lambda sets, _: saturation_tables(sets / "bidmc", _track),
    "respiration": lambda sets, _: respiration_tables(sets / "bidmc", _track),
    "motion": lambda sets, _: motion_tables(sets / "motion", sets / "wrist_ppg", _track),
    "glucose": lambda sets, _: glucose_tables(sets / "cgm", _track),
}


def _track(names: Sequence[str], what: str) -> Iterable[str]:
    """Show how far it is, on standard error: the tables are standard output."""
    return track(names, what, console=Console(stderr=True), transient=True)


def _learning(sets: Path, options: argparse.Namespace) -> None:
    from qepa_tools.recordings.board_beats import FeatureCache  # noqa: PLC0415  the server's packages, for this only
    from qepa_tools.recordings.learning_tables import learning_table  # noqa: PLC0415
    from qepa_tools.recordings.physionet import load_all  # noqa: PLC0415

    recordings = load_all(sets / "mitdb")
    learning_table(
        recordings, FeatureCache(options.cache), options.seeds, options.minutes, options.hidden, options.decay
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m qepa_tools.recordings.study", description=__doc__)
    parser.add_argument("table", choices=(*_TABLES, "learning"))
    parser.add_argument("--data", type=Path, help="directory that holds the sets: mitdb, nstdb, bidmc, ...")
    parser.add_argument(
        "--cache",
        type=Path,
        default=Path.home() / ".cache" / "qepa" / "features",
        help="where computed features are kept",
    )
    parser.add_argument("--markdown", action="store_true", help="for a document (not: learning)")
    parser.add_argument("--minutes", type=float, default=31.0, help="how much of each record (peaks, learning)")
    parser.add_argument("--seeds", type=int, default=5, help="how many splits (learning)")
    parser.add_argument("--decay", type=int, help="1/decay of the model goes each round, 0: none (learning)")
    parser.add_argument(
        "--hidden", type=int, nargs="+", default=[0, 10], help="numbers of hidden units to compare (learning)"
    )
    options = parser.parse_args(arguments)
    try:
        sets = find_sets(options.data)
        if options.table == "learning":
            _learning(sets, options)
            return 0
        tables = _TABLES[options.table](sets, options)
    except ToolError as error:
        print(error, file=sys.stderr)
        return 2
    print("\n\n".join(table.markdown() if options.markdown else table.text() for table in tables))
    return 0


if __name__ == "__main__":
    sys.exit(main())
