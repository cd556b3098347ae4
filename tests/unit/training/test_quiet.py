"""What TensorFlow's native code says of itself stays out of the terminal, and what Python says stays in it."""

import os
import sys

import pytest

from qepa_tools.training.quiet import library_noise_to


def test_native_noise_goes_to_the_log_and_python_is_heard(tmp_path, capfd):
    with library_noise_to(tmp_path / "training.log"):
        os.write(2, b"oneDNN custom operations are on\n")
        print("epoch 1", file=sys.stderr)
    os.write(2, b"after\n")
    said = capfd.readouterr().err
    assert "epoch 1" in said
    assert "after" in said
    assert "oneDNN" not in said
    assert (tmp_path / "training.log").read_text() == "oneDNN custom operations are on\n"


def test_a_failure_gives_standard_error_back(tmp_path, capfd):
    with pytest.raises(ZeroDivisionError), library_noise_to(tmp_path / "training.log"):
        raise ZeroDivisionError
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"
