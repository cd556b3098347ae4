"""Numba for the hot loops: compiled once a machine, kept on disk, and the wait announced where screens and logs see it.

`cache=True` keeps the result beside the source, or in NUMBA_CACHE_DIR where that folder cannot be written. Numba looks
at the age of the file a kernel stands in, so kernels call only kernels of their own module.
"""

import logging
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
from llvmlite import ir
from numba.core import cgutils, event, types
from numba.extending import intrinsic

_log = logging.getLogger("qepa_qkd")
_Function = TypeVar("_Function", bound=Callable[..., Any])


def kernel(function: _Function) -> _Function:
    """Compile `function` on its first call for given types of arguments; overflow of integers wraps."""
    return cast(_Function, numba.njit(cache=True)(function))


def inlined(function: _Function) -> _Function:
    """Compile `function` into the kernels of its module that call it: no passing and counting of many arrays."""
    return cast(_Function, numba.njit(cache=True, inline="always")(function))


@intrinsic  # type: ignore[untyped-decorator]  # numba has no types
def address_of(typing: Any, array: Any) -> Any:  # noqa: ARG001 (numba's interface)
    """In a kernel: where the array's first element lies."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        view = context.make_array(signature.args[0])(context, builder, arguments[0])
        return builder.ptrtoint(view.data, context.get_value_type(types.intp))

    return types.intp(array), generate


@intrinsic  # type: ignore[untyped-decorator]  # numba has no types
def prefetch(typing: Any, address: Any) -> Any:  # noqa: ARG001 (numba's interface)
    """In a kernel: have the cache line at `address` on its way. Any address is allowed, nothing is read.

    An address is an `address_of` and bytes from there: passing the array itself would count references each time.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer, word = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [pointer, word, word, word])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
        where = builder.inttoptr(context.cast(builder, arguments[0], signature.args[0], types.intp), pointer)
        # To be read, kept in all caches, data.
        builder.call(function, [where, word(0), word(3), word(1)])
        return context.get_dummy_value()

    return types.void(address), generate


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
