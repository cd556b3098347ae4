"""Settings of all tests: how hypothesis explores, which files may run at the same time under `pytest -n 2`, and what
a failure shows: the ends of all logs that programs wrote meanwhile.
"""

import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# Hypothesis explores anew at a desk and repeats itself in continuous integration.
settings.register_profile("desk", deadline=None)  # a slow machine is no failure
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") == "true" else "desk")

# These start programs that keep pace with the clock: one worker has them all, one by one, while the other computes.
IN_ONE_LANE = ("tests/e2e/", "tests/faults/", "tests/hil/", "tests/integration/")

TAIL_BYTES = 3000
BEGAN = pytest.StashKey[float]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add to a failure, a timeout included, what its programs wrote to files *.log in temporary folders."""
    report = yield
    began = item.stash.setdefault(BEGAN, call.start)
    factory = getattr(item, "funcargs", {}).get("tmp_path_factory")
    if report.failed and factory is not None:
        folder = factory.getbasetemp()
        report.sections += [(f"end of {log.relative_to(folder)}", tail) for log, tail in logs_since(folder, began)]
    return report


def logs_since(folder: Path, began: float) -> list[tuple[Path, str]]:
    """Each log below ``folder`` that was written to since ``began``, and how it ends."""
    logs = [log for log in sorted(folder.rglob("*.log")) if log.is_file() and log.stat().st_mtime >= began - 0.1]
    return [(log, log.read_bytes()[-TAIL_BYTES:].decode(errors="replace")) for log in logs if log.stat().st_size]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A worker takes a whole file at a time, in the order of collection; IN_ONE_LANE is like one file, the first."""
    from xdist.scheduler import LoadFileScheduling

    class Lanes(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "one lane" if nodeid.startswith(IN_ONE_LANE) else str(super()._split_scope(nodeid))

    config.option.loadscopereorder = False  # that would begin with the files of most tests, not of the longest
    return Lanes(config, log)
