"""Arrays for the kernels that serve one block after the other: fresh memory costs more than what is done in it.

The system hands out zeroed pages one by one as they are touched; at a million bits that takes a third of the time of
error correction. What is read and written at random lies in huge pages where the system has them: a small page costs a
walk through page tables as soon as a few hundred of them are in use.
"""

import contextlib
import mmap
import weakref
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt

MOST_ELEMENTS: Final = 1 << 24
"""Larger arrays are given back to the system: they are of blocks that come seldom."""
HUGE_PAGE: Final = 1 << 21
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
            found = _allocate(size, kind)
            if size <= MOST_ELEMENTS:
                self._arrays[name] = found
        return found[:size]


def _allocate(size: int, kind: type) -> npt.NDArray[Any]:
    length = size * np.dtype(kind).itemsize
    if length < HUGE_PAGE // 2 or not hasattr(mmap, "MADV_HUGEPAGE"):
        return np.empty(size, kind)
    memory = mmap.mmap(-1, length + 2 * HUGE_PAGE)
    bytes_ = np.frombuffer(memory, np.uint8)
    aligned = -bytes_.ctypes.data % HUGE_PAGE
    with contextlib.suppress(OSError):  # a system built without them
        memory.madvise(mmap.MADV_HUGEPAGE)
    return bytes_[aligned : aligned + length].view(kind)


_idle: list[Workspace] = []


def borrow(user: object) -> Workspace:
    """Return a workspace for as long as `user` lives; nobody else has it meanwhile."""
    workspace = _take()
    weakref.finalize(user, _give_back, workspace).atexit = False
    return workspace


@contextlib.contextmanager
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
