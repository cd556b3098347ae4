"""Arrays for the kernels that serve one block after the other: fresh memory costs more than what is done in it.

The system hands out zeroed pages one by one as they are touched; at a million bits that takes a third of the time of
error correction.
"""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
import numpy.typing as npt

MOST_ELEMENTS: Final = 1 << 24
"""Larger arrays are given back to the system: they are of blocks that come seldom."""
_KEPT: Final = 2
"""Workspaces without a user: of a block that ended and of the one that overlapped it."""


class Workspace:
    """Arrays by name. What an array held before is still in it."""

    def __init__(self) -> None:
        self._arrays: dict[str, npt.NDArray[Any]] = {}

    def array(self, name: str, size: int, kind: type) -> npt.NDArray[Any]:
        """Return `size` elements of `kind`, the same memory each time it suffices."""
        found = self._arrays.get(name)
        if found is None or len(found) < size:
            found = np.empty(size, kind)
            if size <= MOST_ELEMENTS:
                self._arrays[name] = found
        return found[:size]


_idle: list[Workspace] = []


def borrow(user: object) -> Workspace:
    """Return a workspace for as long as `user` lives; nobody else has it meanwhile."""
    workspace = _take()
    weakref.finalize(user, _give_back, workspace).atexit = False
    return workspace


@contextmanager
def borrowed() -> Iterator[Workspace]:
    """A workspace for one computation."""
    workspace = _take()
    try:
        yield workspace
    finally:
        _give_back(workspace)


def _take() -> Workspace:
    try:
        return _idle.pop()
    except IndexError:
        return Workspace()


def _give_back(workspace: Workspace) -> None:
    if len(_idle) < _KEPT:
        _idle.append(workspace)
