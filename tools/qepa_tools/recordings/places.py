"""Where recordings are looked for."""

import os
from collections.abc import Mapping
from pathlib import Path

from qepa_tools.recordings.recording import DataError

DATA_VARIABLE = "QEPA_DATA"

_BESIDE_CHECKOUT = Path(__file__).parents[4] / "shared" / "data" / "mitdb"


def find_data(
    directory: str | Path | None = None,
    environ: Mapping[str, str] = os.environ,
    beside_checkout: Path = _BESIDE_CHECKOUT,
) -> Path | None:
    """Where the recordings are: the directory given, else beside the checkout, else $QEPA_DATA, else None.

    None: there are none, and the caller announces that it goes on with synthetic ones. A place that was named must
    hold records; DataError if it does not.
    """
    if directory is not None:
        return _checked(Path(directory))
    if beside_checkout.is_dir():
        return _checked(beside_checkout)
    if named := environ.get(DATA_VARIABLE):
        return _checked(Path(named))
    return None


def find_sets(directory: Path | None = None) -> Path:
    """The directory that holds the sets of recordings, each in its own folder: the one given, else around find_data's.

    DataError if there is none.
    """
    if directory is None:
        found = find_data()
        if found is None:
            raise DataError("No recordings found: name a directory that holds mitdb, bidmc, ... with --data.")
        return found.parent
    if not directory.is_dir():
        raise DataError(f"There is no directory {directory}: name one that holds mitdb, bidmc, ...")
    return directory


def record_names(directory: Path) -> list[str]:
    """Names of the WFDB records in a directory, sorted; DataError if it is missing or holds none."""
    if not directory.is_dir():
        raise DataError(f"There is no directory {directory}: name one that holds WFDB records.")
    names = sorted(path.stem for path in directory.glob("*.hea"))
    if not names:
        raise DataError(f"The directory {directory} holds no WFDB records (*.hea).")
    return names


def _checked(directory: Path) -> Path:
    record_names(directory)
    return directory
