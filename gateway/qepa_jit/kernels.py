"""Decorators for hot loops. They compile on their first call for given types of arguments, or load what is kept."""

import logging
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
from numba.core import event
from numba.core.dispatcher import Dispatcher

from qepa_jit.code_cache import CodeCache

_log = logging.getLogger(__name__)
_Function = TypeVar("_Function", bound=Callable[..., Any])


def kernel(function: _Function, **options: Any) -> _Function:
    """Compile `function` on its first call for given types of arguments; overflow of integers wraps.

    The result is kept beside the source, where that folder cannot be written in the user's cache, or in
    NUMBA_CACHE_DIR. Where none can be written it is made anew by each process. `options` are numba's.
    """
    dispatcher: Any = numba.njit(function, **options)
    if isinstance(dispatcher, Dispatcher):  # not so under NUMBA_DISABLE_JIT
        try:
            dispatcher._cache = CodeCache(dispatcher)  # type: ignore[attr-defined]  # numba has no types
        except RuntimeError as error:
            _log.info("compiled code is not kept: %s", error)
    return cast(_Function, dispatcher)


def inlined(function: _Function, **options: Any) -> _Function:
    """Compile `function` into the kernels that call it: no passing and counting of many arrays."""
    return kernel(function, inline="always", **options)


class _Announcement(event.Listener):  # type: ignore[misc]  # numba has no types
    """Says once in a process that it compiles; kernels that come from the disk are silent."""

    said = False

    def on_start(self, event: Any) -> None:  # noqa: ARG002  # the interface
        """A kernel was not on the disk."""
        if not self.said:
            self.said = True
            _log.warning("Compiling numerical kernels, once on this machine; this takes up to a minute.")

    def on_end(self, event: Any) -> None:
        """Nothing to say."""


event.register("numba:compile", _Announcement())
