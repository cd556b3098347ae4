"""Kernels are run before anything is promised; who waits for the compiler is told how far it is."""

import logging
import sys
from collections.abc import Callable
from typing import Any

import numba
import pytest

from qepa_jit.warming import warm


def _compiling() -> Callable[[], object]:
    kernel: Any = numba.njit(lambda x: x + 1)
    return lambda: kernel(1)


def _nothing() -> None:
    pass


def test_each_step_is_told_from_the_first_that_compiles(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "qepa_jit.warming"):
        warm({"frames": _nothing, "sifting": _compiling(), "hashing": _nothing})
    assert caplog.messages == ["compiling sifting, 2 of 3", "compiling hashing, 3 of 3"]


def test_where_nothing_is_compiled_nothing_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "qepa_jit.warming"):
        warm({"frames": _nothing})
        _compiling()()  # afterwards: not of these steps
    assert caplog.messages == []


def test_a_terminal_sees_a_bar(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with caplog.at_level(logging.INFO, "qepa_jit.warming"):
        warm({"sifting": _compiling()})
    assert "compiling sifting" in capsys.readouterr().err
    assert caplog.messages == []
