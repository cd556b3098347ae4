"""Machine code on disk, a file for each kernel and each types of its arguments.

Numba's own cache keeps an index beside the code. Two processes that save at once give two entries the same file, and
one that starts while new sources are first compiled finds the old code under the new index: either runs what it did not
ask for. Here nothing lies apart. A file is named after the types, replaced as a whole, and begins with a digest over
the code and all that it was made of; what does not fit, being of other sources, of another numba, or torn by a power
cut, is not there. No lock is needed, and none can be left behind.
"""

import glob
import hashlib
import inspect
import logging
import pickle
import secrets
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import llvmlite
import numba
import numpy as np
from numba.core import types
from numba.core.caching import FunctionCache
from numba.core.dispatcher import Dispatcher
from numba.core.serialize import dumps

_log = logging.getLogger(__name__)


class CodeCache(FunctionCache):  # type: ignore[misc]  # numba has no types
    """Numba's cache of one kernel, over `CodeFiles`. Raises RuntimeError where no folder can be written."""

    def __init__(self, kernel: Dispatcher) -> None:
        super().__init__(kernel.py_func)
        self._cache_file = CodeFiles(Path(self._cache_path), self._impl.filename_base, kernel)

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep what was compiled. A folder that is full or gone costs time at the next start, nothing else."""
        try:
            super().save_overload(sig, data)
        except OSError as error:
            _log.warning("compiled code is not kept: %s", error)


class CodeFiles:
    """What `numba.core.caching.IndexDataCacheFile` does, without an index."""

    def __init__(self, folder: Path, name: str, kernel: Dispatcher) -> None:
        self._folder, self._name, self._kernel = folder, name, kernel

    def save(self, key: Any, data: Any) -> None:
        """Keep `data` under `key`: types, processor, bytecode. Raises OSError."""
        code = dumps(data)
        draft = self._folder / f"{self._name}.{secrets.token_hex(8)}.tmp"
        try:
            draft.write_bytes(self._digest(key, code) + code)
            draft.replace(self._path(key))
        except BaseException:
            draft.unlink(missing_ok=True)
            raise

    def load(self, key: Any) -> Any:
        """Return what was kept under `key`, or None."""
        try:
            content = self._path(key).read_bytes()
        except OSError:
            return None
        digest, code = content[:32], content[32:]
        # Nothing is unpickled that another numba, or half a file, may have left.
        return pickle.loads(code) if digest == self._digest(key, code) else None  # noqa: S301  # our own, see above

    def flush(self) -> None:
        """Forget all of this kernel."""
        for path in self._folder.glob(f"{glob.escape(self._name)}.*.nbc"):
            path.unlink(missing_ok=True)

    def _path(self, key: Any) -> Path:
        return self._folder / f"{self._name}.{hashlib.sha256(repr(key).encode()).hexdigest()[:24]}.nbc"

    def _digest(self, key: Any, code: bytes) -> bytes:
        return hashlib.sha256(repr((key, self._made_of)).encode() + code).digest()

    @cached_property
    def _made_of(self) -> tuple[str, str, str, str]:
        # When first needed: what a kernel names may stand below it in its module.
        versions = numba.__version__, llvmlite.__version__, np.__version__
        return *versions, made_of(self._kernel)


def made_of(kernel: Dispatcher) -> str:
    """Digest of all that the code of `kernel` follows from: bytecode and options, of all it calls too, and constants.

    What this process has in memory counts, not what lies on disk now: files may have been replaced since it started.
    """
    digest = hashlib.sha256()
    waiting: list[Any] = [kernel]
    seen = set()
    while waiting:
        callee = waiting.pop()
        function = callee.py_func if isinstance(callee, Dispatcher) else inspect.unwrap(callee)
        if function in seen:
            continue
        seen.add(function)
        options = sorted(callee.targetoptions.items()) if isinstance(callee, Dispatcher) else None
        digest.update(repr((options, function.__defaults__)).encode())
        for code in _with_inner(function.__code__):
            constants = [each for each in code.co_consts if not isinstance(each, CodeType)]
            digest.update(repr((code.co_code, constants, code.co_names, code.co_varnames)).encode())
            for name in code.co_names:
                named: Any = function.__globals__.get(name)
                if isinstance(named, Dispatcher) or isinstance(inspect.unwrap(named), FunctionType):
                    waiting.append(named)
                elif isinstance(named, np.ndarray):
                    digest.update(f"{name} {named.dtype} {named.shape}".encode() + named.tobytes())
                elif isinstance(named, bool | int | float | str | bytes | tuple | np.generic | types.Type):
                    digest.update(f"{name} {named!r}".encode())
    return digest.hexdigest()


def _with_inner(code: CodeType) -> Iterator[CodeType]:
    yield code
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from _with_inner(each)
