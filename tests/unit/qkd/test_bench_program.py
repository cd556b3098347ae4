"""The bench as a program: its options, its control socket, and a recording of it replayed by itself."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qepa_qkd.drivers.terminal import Terminal
from qepa_qkd.errors import ProtocolError, TransientError
from qepa_qkd.serial_protocol import Detections
from qepa_tools.bench.__main__ import main
from qepa_tools.bench.control import ask
from qepa_tools.bench.recording import NOTE, Recording


@contextmanager
def bench(*options: str) -> Iterator[dict[str, str]]:
    """Run the program; the paths that it prints."""
    command = [sys.executable, "-m", "qepa_tools.bench", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        try:
            yield json.loads(line or "null")
        finally:
            process.terminate()
            assert process.wait(10) == 0


async def listen(paths: dict[str, str], run: int, clicks: int) -> tuple[Any, Any]:
    """Run until so many clicks have been heard; slots and the states of them."""
    heard: list[Detections] = []
    receiver = await Terminal.open(paths["receiver"], heard.append, role="receiver")
    transmitter = await Terminal.open(paths["transmitter"], role="transmitter")
    await receiver.start(run)
    await transmitter.start(run)
    end = time.monotonic() + 100
    while sum(len(block.slots) for block in heard) < clicks and time.monotonic() < end:
        await asyncio.sleep(0.02)
    slots = np.concatenate([block.slots for block in heard])[:clicks]
    states = await transmitter.states(run, slots - 3)
    for terminal in (transmitter, receiver):
        await terminal.stop()
        terminal.close()
    return slots, states


def test_a_bench_records_itself_and_its_recording_stands_in_for_it(tmp_path: Path) -> None:
    file = tmp_path / "bench.qrec"
    config = tmp_path / "bench.toml"
    config.write_text('misalignment = 0.02\nseed = 9\nevents = ["set background_hz=5000 at=1000"]\n')
    with bench("--config", str(config), "--record", str(file), "--link-dir", str(tmp_path / "link")) as paths:
        assert paths == {name: str(tmp_path / "link" / name) for name in ("transmitter", "receiver", "control")}
        slots, states = asyncio.run(listen(paths, 1, 5000))
        assert ask(paths["control"], "attack blinding power=1.2")["attack"] == "blinding power=1.2 efficiency=-1"
        status = ask(paths["control"], "status")
        assert (status["simulated"], status["running"], status["settings"]["misalignment"]) == (True, False, 0.02)
        assert status["tally"]["H"] > 1000
        assert status["recorded_bytes"] > 10_000
        with pytest.raises(ProtocolError, match="no attacker 'eve'"):
            ask(paths["control"], "attack eve")
    with Recording(file) as recording:
        assert recording.about["seed"] == 9
        notes = [json.loads(chunk.data) for chunk in recording.chunks() if chunk.kind == NOTE]
        assert notes == [{"request": "attack blinding power=1.2"}]
        assert recording.closed_properly
    with bench("--replay", str(file), "--speed", "0") as paths:
        again, states_again = asyncio.run(listen(paths, 2, 5000))
        assert ask(paths["control"], "status")["simulated"] is True
        with pytest.raises(ProtocolError, match="only a simulated bench"):
            ask(paths["control"], "attack none")
    assert np.array_equal(again, slots)
    assert np.array_equal(states_again, states)
    with pytest.raises(TransientError, match="no virtual bench"):
        ask(paths["control"], "status")


def test_a_bench_that_ends_takes_its_names_back(tmp_path: Path) -> None:
    """Its terminals' numbers are given out again: a program that goes on trying must not find another's there."""
    with bench("--link-dir", str(tmp_path)) as paths:
        assert all(Path(path).is_symlink() for path in paths.values())
    assert not any(Path(path).is_symlink() for path in paths.values())


def test_a_bench_behind_real_ports_is_recorded_as_it_is(tmp_path: Path) -> None:
    """The ports are those of a virtual bench here; the relay does not know."""
    file = tmp_path / "real.qrec"
    with (
        bench("--seed", "4") as real,
        bench("--relay", real["transmitter"], real["receiver"], "--record", str(file)) as paths,
    ):
        slots, states = asyncio.run(listen(paths, 1, 3000))
        assert ask(paths["control"], "status")["simulated"] is False
    with bench("--replay", str(file)) as paths:
        again, states_again = asyncio.run(listen(paths, 2, 3000))
    assert np.array_equal(again, slots)
    assert np.array_equal(states_again, states)


def test_a_relay_ends_with_the_bench_it_relays_and_closes_its_recording(tmp_path: Path) -> None:
    with bench() as real:
        command = [sys.executable, "-m", "qepa_tools.bench", "--relay", real["transmitter"], real["receiver"]]
        command += ["--record", str(tmp_path / "x")]
        relay = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert relay.stdout is not None
        assert relay.stdout.readline()
    _, error = relay.communicate(timeout=20)
    assert relay.returncode == 2
    assert error.startswith("qepa: serial port")
    with Recording(tmp_path / "x") as recording:
        assert not list(recording.chunks())
        assert recording.closed_properly


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--misalignment", "0.7"], "misalignment"),
        (["--misalignment", "a lot"], "'a lot' is no value for misalignment"),
        (["--attack", "eve"], "no attacker"),
        (["--event", "attack blinding at=5 until=1"], "before"),
        (["--replay", "{folder}/nothing"], "No such file"),
        (["--replay", "{folder}/letter"], "no recording"),
        (["--relay", "{folder}/letter", "{folder}/letter"], "cannot be opened"),
        (["--record", "{folder}/letter"], "no recording"),
        (["--config", "{folder}/letter"], "no TOML file"),
        (["--config", "{folder}/other.toml"], "no setting colour"),
    ],
)
def test_what_cannot_start_says_so_in_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], complaint: str
) -> None:
    (tmp_path / "letter").write_text("Dear bench,")
    (tmp_path / "other.toml").write_text('colour = "blue"')
    assert main([option.format(folder=tmp_path) for option in options]) == 2
    error = capsys.readouterr().err
    assert complaint in error
    assert error.count("\n") == 1
