"""The chapter on privacy of server/LEARNING.md, at the sizes of `qepa audit privacy`."""

from collections.abc import Callable
from pathlib import Path

from ..benchmarks.learning import Chapter
from .plots import draw_all
from .study import AuditSettings, run_audit
from .tables import tables
from .wards import Size, audited_wards


def chapter(data: Path, say: Callable[[str], None]) -> Chapter:
    """Return every table and plot of an audit: a minute and a half of one core."""

    def begin(what: str, _steps: int) -> Callable[[int], None]:
        say(f"privacy: {what}")
        return lambda _done: None

    asked = AuditSettings()
    wards, _ = audited_wards(data, Size(), asked.seed, synthetic=False)
    audit = run_audit(wards, asked, begin)
    figures = {name: png for name, (png, _) in draw_all(audit).items()}
    return Chapter(tables={f"privacy-{name}": table for name, table in tables(audit).items()}, figures=figures)
