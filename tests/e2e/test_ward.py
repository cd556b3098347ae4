"""The whole ward as its users run it: the qepa command, real MicroPython boards, real recordings if they are there."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from playwright.sync_api import Browser

from qepa_tools.ward.ports import free_port

STATISTICS, UPDATE = 1, 2
MEMORY_LIMIT_BYTES = 2_000_000_000

pytestmark = [pytest.mark.slow, pytest.mark.timeout(420)]


@dataclass
class Running:
    """A ward running as a process of its own."""

    process: subprocess.Popen[str]
    page: str

    def state(self) -> dict[str, Any] | None:
        try:
            with urllib.request.urlopen(self.page + "api/state", timeout=5) as answer:  # noqa: S310
                state: dict[str, Any] = json.load(answer)
                return state
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            return None

    def wait_for(self, condition: Callable[[dict[str, Any]], bool], *, timeout_s: float, what: str) -> dict[str, Any]:
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            assert self.process.poll() is None, f"the ward ended while waiting for {what}"
            state = self.state()
            if state is not None and condition(state):
                return state
            time.sleep(0.05)
        raise AssertionError(f"no {what} within {timeout_s} s")

    def finish(self, *, timeout_s: float) -> dict[str, Any]:
        out, errors = self.process.communicate(timeout=timeout_s)
        assert self.process.returncode == 0, f"status {self.process.returncode}: {errors}\n{out[-3000:]}"
        report: dict[str, Any] = json.loads(out)
        return report

    def family(self) -> list[psutil.Process]:
        parent = psutil.Process(self.process.pid)
        return [parent, *parent.children(recursive=True)]

    def program(self, module: str) -> psutil.Process:
        """One of its programs; others may end at any moment."""
        for process in self.family():
            with contextlib.suppress(psutil.NoSuchProcess):
                if module in " ".join(process.cmdline()):
                    return process
        raise AssertionError(f"no {module} runs")


@pytest.fixture
def start_ward(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    running: list[Running] = []

    def start(*arguments: str, state: Path | None = None) -> Running:
        port = free_port()
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "qepa_tools.cli", "ward", "--page-port", str(port)),
                *("--state", str(state or tmp_path / "ward"), *arguments),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "COLUMNS": "200"},
        )
        ward = Running(process, f"http://127.0.0.1:{port}/")
        running.append(ward)
        return ward

    yield start
    for ward in running:
        if ward.process.poll() is None:
            ward.process.terminate()
            try:
                ward.process.communicate(timeout=60)
            except subprocess.TimeoutExpired:
                ward.process.kill()


def assert_rounds(report: dict[str, Any], *, rounds: int) -> None:
    assert report["ok"]
    assert report["sealed_twice"] == 0
    assert len(report["rounds"]) == rounds
    for entry in report["rounds"]:
        assert entry["state"] == "done"
        assert entry["exact"]
        assert {cell["stream"] for cell in entry["cells"]} == {STATISTICS, UPDATE}
        assert all(cell["sum"] and cell["exact"] and cell["patients"] >= 10 for cell in entry["cells"])
        assert 0.005 <= entry["qber"] <= 0.05
        assert entry["key_bits_produced"] > entry["key_bits_consumed"] > 0
        assert entry["update"]["payload_bits"] <= 7680
        assert entry["latency_ms"] > 0
        assert 0 < entry["held_out"]["accuracy"] <= 1


def assert_no_key_in_logs(state_dir: Path) -> None:
    logs = b"".join(path.read_bytes() for path in (state_dir / "logs").iterdir())
    identities = list((state_dir / "boards").rglob("identity.json"))
    assert len(identities) == 12
    for identity in map(json.loads, (path.read_text() for path in identities)):
        for name in ("end_key", "cohort_key"):
            assert identity[name].encode() not in logs
            assert bytes.fromhex(identity[name]) not in logs


def gone(processes: list[psutil.Process], *, timeout_s: float = 60) -> list[psutil.Process]:
    _, alive = psutil.wait_procs(processes, timeout=timeout_s)
    return [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]


def watch_heart_rates(browser: Browser, page_url: str) -> dict[str, set[str]]:
    """Every heart rate the page shows, by board, until six boards' have changed or 120 s are over."""
    seen: dict[str, set[str]] = {}
    page = browser.new_page()
    page.goto(page_url)
    end = time.monotonic() + 120
    while time.monotonic() < end and sum(len(rates) > 1 for rates in seen.values()) < 6:
        for board in range(1, 13):
            shown = page.text_content(f"[data-testid=hr-{board:08x}]", timeout=60_000) or ""
            if shown.isdigit():
                seen.setdefault(f"{board:08x}", set()).add(shown)
        page.wait_for_timeout(500)
    page.close()
    return seen


def ecg_of(page_url: str, board: str, *, records: int) -> list[dict[str, Any]]:
    """What the server tells who looks at the ECG of ``board``."""
    found: list[dict[str, Any]] = []
    with urllib.request.urlopen(f"{page_url}api/boards/{board}/ecg", timeout=60) as events:  # noqa: S310
        while len(found) < records:
            line = events.readline()
            assert line, "the stream ended"
            if line.startswith(b"data: "):
                found.append(json.loads(line.removeprefix(b"data: ")))
    return found


def test_twelve_boards_three_rounds_one_unplugged_and_the_page_shows_heart_rates_change(
    start_ward: Callable[..., Running], browser: Browser, tmp_path: Path
) -> None:
    ward = start_ward("--boards", "12", "--rounds", "3", "--speed", "4", "--json", "--seed", "1", "--unplug", "5@2")
    state = ward.wait_for(lambda state: any(b["vitals"] for b in state["boards"]), timeout_s=120, what="vitals")
    family = ward.family()
    watched = next(board["board"] for board in state["boards"] if board["vitals"])
    ecg = ecg_of(ward.page, watched, records=4)
    assert all(0 < len(each["samples"]) <= each["fs_hz"] and max(each["samples"]) > 0 for each in ecg)
    assert [each["first"] for each in ecg] == sorted({each["first"] for each in ecg})
    assert sum(len(each["peaks"]) for each in ecg) >= 2
    seen = watch_heart_rates(browser, ward.page)
    changed = [board for board, rates in seen.items() if len(rates) > 1]
    assert len(changed) >= 6, f"heart rates on the page: {seen}"
    report = ward.finish(timeout_s=240)
    assert_rounds(report, rounds=3)
    contributors = [set(entry["cells"][0]["contributors"]) for entry in report["rounds"]]
    assert contributors[0] == contributors[2] == set(range(1, 13)), "the unplugged board takes part again"
    assert contributors[1] >= set(range(1, 13)) - {5}
    assert not gone(family), "a process outlived its ward"
    assert_no_key_in_logs(tmp_path / "ward")


def test_three_gateways_share_one_cell_and_train_a_hidden_layer(start_ward: Callable[..., Running]) -> None:
    ward = start_ward(
        "--gateways", "3", "--rounds", "2", "--speed", "2", "--json", "--period", "20", "--hidden", "10"
    )  # fmt: skip
    report = ward.finish(timeout_s=300)
    assert_rounds(report, rounds=2)
    assert [entry["model_version"] for entry in report["rounds"]] == [2, 3]
    for entry in report["rounds"]:
        assert entry["update"]["words"] == 224
        assert all(cell["gateways"] == ["gw-1", "gw-2", "gw-3"] for cell in entry["cells"])
    assert sorted(report["audit"]["kept"]) == ["gw-1", "gw-2", "gw-3"], "each countersigned the audit log"
    assert not report["audit"]["contradicted"]
    assert not report["audit"]["refused"]
    assert [row["purpose"] for row in report["privacy"]] == ["statistics", "learning"]


def test_too_few_patients_give_no_sum_and_say_so(start_ward: Callable[..., Running]) -> None:
    ward = start_ward("--boards", "6", "--period", "10")
    state = ward.wait_for(
        lambda state: any(entry["state"] == "void" for entry in state["rounds"]), timeout_s=120, what="void round"
    )
    void = next(entry for entry in state["rounds"] if entry["state"] == "void")
    assert void["heart_rate"] is None
    assert "min_group" in json.dumps(void) or "patients" in json.dumps(void["cells"])
    family = ward.family()
    ward.process.send_signal(signal.SIGINT)
    ward.process.communicate(timeout=100)
    assert ward.process.returncode == 0
    assert not gone(family), "Ctrl-C left a process behind"


def test_killed_programs_lose_nothing_and_a_second_start_resumes(
    start_ward: Callable[..., Running], tmp_path: Path
) -> None:
    """Server and gateway die by kill -9 during a round, then the ward itself; the next start goes on from there."""
    state_dir = tmp_path / "resumed"
    ward = start_ward("--rounds", "3", "--json", "--period", "15", "--unplug", "5@1", state=state_dir)
    # Round 1 waits for the unplugged board, so both die while vectors are being collected.
    for module in ("qepa_gateway", "qepa_server"):
        ward.wait_for(
            lambda state: state["round"] is not None and state["round"]["phase"] in ("ready", "collect", "settle"),
            timeout_s=150,
            what="running round",
        )
        ward.program(module).kill()
    report = ward.finish(timeout_s=240)
    assert report["sealed_twice"] == 0
    for entry in report["rounds"]:
        assert entry["exact"] or (entry["exact"] is None and entry["state"] == "void")
    assert report["rounds"][-1]["exact"], "the ward is well again"
    last = report["rounds"][-1]

    again = start_ward("--period", "15", state=state_dir)
    resumed = again.wait_for(
        lambda state: bool(state["rounds"]) and state["rounds"][0]["number"] > last["number"]
        and state["rounds"][0]["state"] == "done",
        timeout_s=180,
        what="a round after the restart",
    )  # fmt: skip
    assert resumed["model"]["version"] > last["model_version"]
    family = again.family()
    again.process.kill()
    again.process.communicate(timeout=100)
    assert not gone(family), "kill -9 of the ward left a process behind"


def test_sixty_boards_fit_in_two_gigabytes(start_ward: Callable[..., Running]) -> None:
    ward = start_ward("--boards", "60", "--rounds", "2", "--speed", "1", "--json")
    peak = 0
    while ward.process.poll() is None:
        used = 0
        for process in ward.family():
            try:
                used += process.memory_full_info().pss
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        peak = max(peak, used)
        time.sleep(2)
    report = ward.finish(timeout_s=10)
    assert report["ok"]
    assert all(entry["contributors"] >= 55 for entry in report["rounds"])
    assert peak < MEMORY_LIMIT_BYTES, f"{peak / 1e6:.0f} MB"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--data", "/nonexistent"), "no directory"),
        (("--boards", "0"), "--boards"),
        (("--gateways", "99"), "--gateways"),
        (("--speed", "1000"), "--speed"),
        (("--unplug", "x"), "--unplug"),
    ],
)
def test_what_the_user_can_mend_is_one_sentence_and_exit_2(
    start_ward: Callable[..., Running], arguments: tuple[str, ...], words: str
) -> None:
    ward = start_ward(*arguments)
    _, errors = ward.process.communicate(timeout=150)
    assert ward.process.returncode == 2
    assert words in errors
    assert len(errors.strip().splitlines()) == 1


def test_a_busy_port_is_one_sentence_and_exit_2(start_ward: Callable[..., Running]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ward = start_ward("--page-port", str(taken.getsockname()[1]))
        _, errors = ward.process.communicate(timeout=150)
    assert ward.process.returncode == 2
    assert "busy" in errors
    assert len(errors.strip().splitlines()) == 1


def test_an_unreadable_key_store_is_one_sentence_and_exit_2(start_ward: Callable[..., Running], tmp_path: Path) -> None:
    identities = tmp_path / "ward" / "identities"
    identities.mkdir(parents=True)
    (identities / "server.json").write_text("{garbage")
    ward = start_ward()
    _, errors = ward.process.communicate(timeout=150)
    assert ward.process.returncode == 2
    assert "server.json" in errors
    assert len(errors.strip().splitlines()) == 1
