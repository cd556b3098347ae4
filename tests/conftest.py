"""Settings of all tests: how hypothesis explores, and which files may run at the same time under `pytest -n 2`."""

import os
from typing import Any

import pytest
from hypothesis import settings

# Hypothesis explores anew at a desk and repeats itself in continuous integration.
settings.register_profile("desk", deadline=None)  # a slow machine is no failure
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") == "true" else "desk")

# These start programs that keep pace with the clock: one worker has them all, one by one, while the other computes.
IN_ONE_LANE = ("tests/e2e/", "tests/faults/", "tests/hil/", "tests/integration/")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A worker takes a whole file at a time, in the order of collection; IN_ONE_LANE is like one file, the first."""
    from xdist.scheduler import LoadFileScheduling

    class Lanes(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "one lane" if nodeid.startswith(IN_ONE_LANE) else str(super()._split_scope(nodeid))

    config.option.loadscopereorder = False  # that would begin with the files of most tests, not of the longest
    return Lanes(config, log)
