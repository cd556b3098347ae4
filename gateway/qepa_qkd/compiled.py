"""What kernels can do beyond numba's own: where an array lies, and fetching ahead."""

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic


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
