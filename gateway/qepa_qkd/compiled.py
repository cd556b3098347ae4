"""Numba for the hot loops: compiled once a machine, kept on disk, and the wait announced where screens and logs see it.

`cache=True` keeps the result beside the source, or in NUMBA_CACHE_DIR where that folder cannot be written. Numba looks
at the age of the file a kernel stands in, so kernels call only kernels of their own module.
"""

import logging
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
from numba.core import event

_log = logging.getLogger("qepa_qkd")
_Function = TypeVar("_Function", bound=Callable[..., Any])


def kernel(function: _Function) -> _Function:
    """Compile `function` on its first call for given types of arguments; overflow of integers wraps."""
    return cast(_Function, numba.njit(cache=True)(function))


def inlined(function: _Function) -> _Function:
    """Compile `function` into the kernels of its module that call it: no passing and counting of many arrays."""
    return cast(_Function, numba.njit(cache=True, inline="always")(function))


class _Announcement(event.Listener):  # type: ignore[misc]  # numba has no types
    """Says once in a process that it compiles; kernels that come from the disk are silent."""

    said = False

    def on_start(self, event: Any) -> None:  # noqa: ARG002  # the interface
        if not self.said:
            self.said = True
            _log.warning("Compiling numerical kernels, once on this machine; this takes up to a minute.")

    def on_end(self, event: Any) -> None:
        """Nothing to say."""


event.register("numba:compile", _Announcement())
