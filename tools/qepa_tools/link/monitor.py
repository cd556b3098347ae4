"""What a running link does, gathered from both KMEs' status and Alice's history of blocks."""

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from qepa_qkd.errors import TransientError
from qepa_qkd.history import history_path, read_history
from qepa_qkd.kme_client import KmeClient

from .folder import MASTER, SLAVE, LinkFolder

_SHOWN_BLOCKS: Final = 120
_MINUTE_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class BlockRecord:
    """One block as the history has it; `seconds` since the one before, None for the first after a start."""

    t: float
    qber_key: float | None
    qber_test: float | None
    sifted_bits: int
    key_bits: int
    reason: str | None
    stock_bits: int
    seconds: float | None
    simulated: bool
    pulses: int = 0
    """Of its light; 0 where the history does not say."""


def block_records(entries: list[dict[str, Any]]) -> list[BlockRecord]:
    """Return the blocks of a history."""
    records: list[BlockRecord] = []
    before: float | None = None
    simulated = False
    for entry in entries:
        if entry["what"] == "start":
            before, simulated = None, bool(entry.get("simulated"))
        elif entry["what"] == "block":
            t, sifted = float(entry["t"]), int(entry["sifted_bits"])
            records.append(
                BlockRecord(
                    t=t,
                    qber_key=entry["qber_x"] if sifted else None,
                    qber_test=entry["qber_z"] if sifted else None,
                    sifted_bits=sifted,
                    key_bits=int(entry["key_bits"]),
                    reason=entry["reason"],
                    stock_bits=int(entry["stock_bits"]),
                    seconds=None if before is None else t - before,
                    simulated=simulated,
                    pulses=int(entry.get("pulses", 0)),
                )
            )
            before = t
    return records


@dataclass(frozen=True, slots=True)
class LinkView:
    """A link at one moment."""

    simulated: bool
    seconds: float
    states: Mapping[str, str]
    qber_key: float | None
    qber_test: float | None
    qber_threshold: float
    stock_bits: int
    blocks: int
    blocks_without_key: int
    last_reason: str | None
    alarms: Mapping[str, str]
    threat_level: str
    rekey_s: float
    frames_lost: int
    sifted_bps: float
    key_bits_per_minute: float
    key_bits: int
    """Made since the beginning of the watch."""
    made: list[BlockRecord] = field(default_factory=list)
    """Newest blocks since the beginning of the watch, oldest first."""


class Monitor:
    """Watches the link of a folder whose KMEs are at `urls`. An async context manager."""

    def __init__(self, folder: LinkFolder, urls: Mapping[str, str]) -> None:
        self._folder = folder
        self._clients: dict[str, tuple[KmeClient, str]] = {
            "alice": (folder.client("alice", urls["alice"]), SLAVE),
            "bob": (folder.client("bob", urls["bob"]), MASTER),
        }
        self._started_s = time.time()
        self._lines = _Tail(history_path(folder.configs["alice"].store.path), self._started_s)
        self._last: dict[str, dict[str, Any]] = {}

    async def __aenter__(self) -> "Monitor":
        return self

    async def __aexit__(self, *_: object) -> None:
        for client, _peer in self._clients.values():
            await client.close()

    async def view(self) -> LinkView:
        """Ask both ends. An end that does not answer is shown as such. Raises QkdError on a refusal."""
        states = {}
        for role, (client, peer) in self._clients.items():
            try:
                self._last[role] = (await client.status(peer))["status_extension"]
                states[role] = str(self._last[role]["link_state"])
            except TransientError:
                states[role] = "no answer"
        records = self._lines.read()
        now_s = time.time()
        recent = [record for record in records if now_s - record.t < _MINUTE_S]
        span_s = max(1.0, min(_MINUTE_S, now_s - self._started_s))
        alice, bob = self._last.get("alice", {}), self._last.get("bob", {})
        levels = [end.get("threat_level", "normal") for end in (alice, bob)]
        return LinkView(
            simulated=self._folder.simulated,
            seconds=now_s - self._started_s,
            states=states,
            qber_key=alice.get("qber_key_basis"),
            qber_test=alice.get("qber_test_basis"),
            qber_threshold=self._folder.configs["alice"].protocol.qber_threshold,
            stock_bits=int(alice.get("stock_bits", 0)),
            blocks=len(records),
            blocks_without_key=sum(record.reason is not None for record in records),
            last_reason=next((record.reason for record in reversed(records) if record.reason), None),
            alarms={**alice.get("alarms", {}), **bob.get("alarms", {})},
            threat_level=max(levels, key=("normal", "elevated", "high").index),
            rekey_s=float(alice.get("rekey_s", 0.0)),
            frames_lost=int(alice.get("serial_frames_lost", 0)) + int(bob.get("serial_frames_lost", 0)),
            sifted_bps=sum(record.sifted_bits for record in recent) / span_s,
            key_bits_per_minute=sum(record.key_bits for record in recent) * _MINUTE_S / span_s,
            key_bits=sum(record.key_bits for record in records),
            made=list(records)[-_SHOWN_BLOCKS:],
        )


class _Tail:
    """Blocks of a history since a time; reads the file again only when it has changed."""

    def __init__(self, path: Path, since_s: float) -> None:
        self._path, self._since_s = path, since_s
        self._seen: tuple[int, int] | None = None
        self._records: deque[BlockRecord] = deque()

    def read(self) -> deque[BlockRecord]:
        if self._path.exists():
            stat = self._path.stat()
            if (stat.st_size, stat.st_mtime_ns) != self._seen:
                self._seen = stat.st_size, stat.st_mtime_ns
                self._records = deque(r for r in block_records(read_history(self._path)) if r.t >= self._since_s)
        return self._records
