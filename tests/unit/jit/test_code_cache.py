"""Kept machine code is that of the sources and types asked for, or it is not there; programs may start all at once."""

import logging
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
from numba.core import caching

from qepa_jit import kernels
from qepa_jit.code_cache import CodeCache, CodeFiles, made_of

PROGRAM = """
import numpy as np
from qepa_jit.kernels import inlined, kernel

TABLE = np.array([1, {entry}])
CONSTANT = 10

@inlined
def inside(x):
    return x * {factor}

@kernel
def callee(x):
    return x + TABLE[1]

@kernel
def add(x, y):
    return inside(callee(x)) + CONSTANT * y

print(add(1, 2), add(1.5, 2), sum(add.stats.cache_hits.values()))
"""


def start(folder: Path) -> "subprocess.Popen[str]":
    """A program over compiled code in `folder`/code: prints two sums, and how many of the two were loaded."""
    source = folder / "program.py"
    source.write_text(PROGRAM.format(entry=5, factor=1))
    env = {**os.environ, "NUMBA_CACHE_DIR": str(folder / "code")}
    return subprocess.Popen([sys.executable, str(source)], stdout=subprocess.PIPE, text=True, env=env)


def test_programs_that_start_at_once_compute_the_same_and_a_later_one_compiles_nothing(tmp_path: Path) -> None:
    together = [start(tmp_path) for _ in range(2)]
    assert {process.communicate()[0].rsplit(" ", 1)[0] for process in together} == {"26 26.5"}
    assert start(tmp_path).communicate()[0] == "26 26.5 2\n"
    # Numba's own way has not come back: with another numba its internals may have other names.
    assert {path.suffix for path in tmp_path.glob("code/*/*")} == {".nbc"}


def kernel_of(tmp_path: Path, *, entry: int = 5, factor: int = 1) -> Any:
    """`add` as a process has it that imported the program; not compiled."""
    source = PROGRAM.format(entry=entry, factor=factor).rpartition("print")[0]
    path = tmp_path / "module.py"
    path.write_text(source)
    names: dict[str, Any] = {}
    exec(compile(source, path, "exec"), names)  # noqa: S102
    return names["add"]


@pytest.mark.parametrize("changed", [{"entry": 6}, {"factor": 2}], ids=["a table", "an inlined callee"])
def test_code_of_other_sources_is_not_there(tmp_path: Path, changed: dict[str, int]) -> None:
    old, new = (
        CodeFiles(tmp_path, "add", kernel_of(tmp_path)),
        CodeFiles(tmp_path, "add", kernel_of(tmp_path, **changed)),
    )
    old.save("ints", "old code")
    assert new.load("ints") is None
    new.save("ints", "new code")
    assert (old.load("ints"), new.load("ints")) == (None, "new code")
    assert len(list(tmp_path.glob("*.nbc"))) == 1


@kernels.kernel
def _add(x: Any, y: Any) -> Any:
    return x + y


@pytest.fixture
def files(tmp_path: Path) -> Callable[[], CodeFiles]:
    return lambda: CodeFiles(tmp_path, "add", _add)  # type: ignore[arg-type]  # a dispatcher


def test_types_saved_between_the_steps_of_another_save_are_both_right(
    files: Callable[[], CodeFiles], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = files(), files()
    steps: list[str] = []
    acts = {step: getattr(Path, step) for step in ("write_bytes", "replace")}

    def around(step: str) -> Callable[..., Any]:
        def act(path: Path, *arguments: Any) -> None:
            between(f"before {step}")
            acts[step](path, *arguments)
            between(f"after {step}")

        return act

    def between(step: str) -> None:
        with monkeypatch.context() as whole:
            for name, act in acts.items():
                whole.setattr(Path, name, act)
            other.save("floats", f"code of floats {step}")
        steps.append(step)
        assert files().load("floats") == f"code of floats {step}"
        assert files().load("ints") in (None, "code of ints")

    for step in acts:
        monkeypatch.setattr(Path, step, around(step))
    one.save("ints", "code of ints")
    assert steps == ["before write_bytes", "after write_bytes", "before replace", "after replace"]
    assert (files().load("ints"), files().load("floats")) == ("code of ints", "code of floats after replace")


@pytest.mark.parametrize("left", [0, 20, 40])
def test_a_torn_file_is_not_there(files: Callable[[], CodeFiles], tmp_path: Path, left: int) -> None:
    files().save("ints", "code")
    (path,) = tmp_path.glob("*.nbc")
    path.write_bytes(path.read_bytes()[:left])
    assert files().load("ints") is None
    files().save("ints", "code")
    assert files().load("ints") == "code"


def test_what_is_no_code_of_ours_is_never_unpickled(files: Callable[[], CodeFiles], tmp_path: Path) -> None:
    files().save("ints", "code")
    (path,) = tmp_path.glob("*.nbc")

    class Trap:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "sprung"),)

    path.write_bytes(bytes(32) + pickle.dumps(Trap()))
    assert files().load("ints") is None
    assert not (tmp_path / "sprung").exists()


def test_a_save_that_fails_leaves_nothing_and_stops_no_computation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    kernel: Any = numba.njit(_add.py_func)  # type: ignore[attr-defined]
    monkeypatch.setattr(caching.config, "CACHE_DIR", str(tmp_path))
    kernel._cache = CodeCache(kernel)

    def full(*_: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(Path, "replace", full)
    with caplog.at_level(logging.WARNING):
        assert kernel(np.int8(1), np.int8(2)) == 3
    assert "no space left" in caplog.text
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_without_a_folder_that_can_be_written_kernels_compile_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [])
    kernel: Any = kernels.kernel(lambda x: x + 1)
    assert kernel(1) == 2


def test_forgetting_leaves_what_others_kept(files: Callable[[], CodeFiles], tmp_path: Path) -> None:
    other = CodeFiles(tmp_path, "adder", _add)  # type: ignore[arg-type]
    files().save("ints", "code")
    other.save("ints", "code")
    files().flush()
    assert files().load("ints") is None
    assert other.load("ints") == "code"


def test_options_and_defaults_make_other_code() -> None:
    def doubled(x: Any, by: int = 2) -> Any:
        return x * by

    def tripled(x: Any, by: int = 3) -> Any:
        return x * by

    plain, unsafe = numba.njit(doubled), numba.njit(doubled, fastmath=True)
    assert len({made_of(plain), made_of(unsafe), made_of(numba.njit(tripled))}) == 3
    assert made_of(plain) == made_of(numba.njit(doubled))
