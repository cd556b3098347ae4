"""The commands that train: what they hand on, and how they end."""

from importlib import import_module
from pathlib import Path

import pytest
from typer.testing import CliRunner

from qepa_tools.cli import app
from qepa_tools.errors import ToolError

COMMANDS = {"ecg-beats": "ecg_beats", "ecg-quality": "ecg_quality", "activity": "activity", "glucose-30": "glucose"}


@pytest.mark.parametrize(("command", "module"), COMMANDS.items())
def test_each_command_trains_its_own_model_as_told(command, module, monkeypatch):
    asked = []

    def make(data, **settings):
        asked.append((data, settings))
        raise ToolError("nothing to learn from")

    monkeypatch.setattr(import_module(f"qepa_tools.training.{module}"), "make", make)
    options = ["--data", "here", "--folds", "2", "--epochs", "3", "--version", "4"]
    result = CliRunner().invoke(app, ["train", command, *options])
    assert result.exit_code == 2
    assert "nothing to learn from" in result.stderr
    ((data, settings),) = asked
    del settings["steps"]
    assert (data, settings) == (Path("here"), {"folds": 2, "epochs": 3, "version": 4})
