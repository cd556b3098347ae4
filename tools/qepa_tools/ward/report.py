"""What a ward's rounds gave, gathered while it runs: exactness, sizes, latency, keys, accuracy."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

from qepa_wire.frame import HEADER_BYTES, MAC_BYTES
from qepa_wire.keystream import STREAM_UPDATE
from qepa_wire.lighthe import vector_bytes
from qepa_wire.payloads import VECTOR_HEADER

from ..recordings.board_beats import FeatureCache
from ..recordings.evaluation import HeldOut
from .plan import WardPlan
from .ward import Ward

_LOG = logging.getLogger("qepa.ward")
_POLL_S = 0.25
_HELD_OUT_S = 300.0
_KEEP_ROUNDS = 20


class Reporter:
    """Follows a ward round by round."""

    def __init__(self, plan: WardPlan, ward: Ward) -> None:
        self._plan, self._ward = plan, ward
        self._rounds: list[dict[str, Any]] = []
        self._first: int | None = None
        self._held_out: asyncio.Task[HeldOut] | None = None
        self._unplugged = False
        self._last_state: dict[str, Any] = {}

    async def watch(self) -> None:
        """Follow until the rounds are done."""
        async for _ in self.states():
            pass

    async def states(self) -> AsyncIterator[dict[str, Any] | None]:
        """Yield the server's state (None while it does not answer) until the planned rounds are done."""
        self._held_out = asyncio.create_task(asyncio.to_thread(self._prepare_held_out))
        while not (self._plan.rounds and len(self._rounds) >= self._plan.rounds):
            await self._ward.check()
            state = await self._ward.state()
            if state is not None:
                self._last_state = state
                await self._follow(state)
            yield state
            await asyncio.sleep(_POLL_S)

    def report(self) -> dict[str, Any]:
        """The JSON object of the whole run; ``ok``: all rounds ended, no opened sum was wrong, no mask used twice."""
        plan = self._plan
        wrong = any(entry["exact"] is False for entry in self._rounds)
        return {
            "ok": len(self._rounds) >= plan.rounds and not wrong and not self._ward.truth.sealed_twice,
            "simulated": True,
            "data_source": self._ward.data_source,
            "boards": plan.boards,
            "gateways": plan.gateways,
            "seed": plan.seed,
            "pace": self._ward.pace,
            "page": self._ward.page_url,
            "sealed_twice": len(self._ward.truth.sealed_twice),
            "refused": self._last_state.get("refused", {}),
            "gateways_state": self._last_state.get("gateways", []),
            "privacy": self._last_state.get("privacy", []),
            "not_asked_for": self._last_state.get("not_asked_for", []),
            "quarantines": self._last_state.get("quarantines", []),
            "audit": self._last_state.get("audit", {}),
            "rounds": self._rounds,
        }

    def _prepare_held_out(self) -> HeldOut:
        cache = FeatureCache(self._ward.layout.state("beats"))
        return HeldOut(self._ward.held_out, cache, _HELD_OUT_S)

    async def _follow(self, state: dict[str, Any]) -> None:
        current = state["round"]
        numbers = [entry["number"] for entry in state["rounds"]]
        if self._first is None:
            running = [entry["number"] for entry in state["rounds"] if entry["state"] == "running"]
            self._first = min(running) if running else max(numbers, default=0) + 1
        await self._unplug(current)
        done = {entry["number"] for entry in self._rounds}
        for entry in reversed(state["rounds"]):
            if entry["number"] >= self._first and entry["state"] != "running" and entry["number"] not in done:
                self._rounds.append(await self._examine(entry, state))
                self._rounds = self._rounds[-max(_KEEP_ROUNDS, self._plan.rounds) :]
                self._ward.truth.forget_before(entry["number"] - _KEEP_ROUNDS)

    async def _unplug(self, current: dict[str, Any] | None) -> None:
        """Cut and restore the power of the board that the plan names, as soon as its round is under way."""
        plan = self._plan.unplug
        if plan is None or self._unplugged or current is None or self._first is None:
            return
        if current["number"] == self._first + plan.round - 1:
            self._unplugged = True
            await self._ward.beds.unplug(plan.board)
            _LOG.info("board %08x unplugged in round %d (%s)", plan.board, current["number"], current["phase"])
            await asyncio.sleep(1.0)
            await self._ward.beds.replug(plan.board)

    async def _examine(self, entry: dict[str, Any], state: dict[str, Any]) -> dict[str, Any]:
        opened = await self._ward.round(entry["number"]) or {"cells": []}
        cells = [self._examine_cell(entry["number"], cell) for cell in opened["cells"]]
        model = await self._ward.model()
        links = [gateway["link"] for gateway in state["gateways"] if gateway["link"] is not None]
        qbers = [link["qber"] for link in links if link["qber"] is not None]
        summed = [cell for cell in cells if cell["sum"]]
        return {
            "number": entry["number"],
            "state": entry["state"],
            "contributors": entry["contributors"],
            "patients": entry["patients"],
            "cells": cells,
            "exact": all(cell["exact"] for cell in summed) if summed else None,  # None: nothing was opened
            "reason": entry.get("reason"),
            "heart_rate": entry["heart_rate"],
            "update": _update_size(model),
            "latency_ms": entry["latency_ms"],
            "qber": sum(qbers) / len(qbers) if qbers else None,
            "key_bits_produced": sum(link["bits_produced"] for link in links),
            "key_bits_consumed": sum(link["bits_consumed"] for link in links),
            "model_version": entry["model_version"],
            "held_out": await self._evaluate(model),
        }

    def _examine_cell(self, round_: int, cell: dict[str, Any]) -> dict[str, Any]:
        opened = cell["sum"]
        exact = opened is not None and self._ward.truth.exact(round_, cell["stream"], cell["contributors"], opened)
        return {
            "cell": cell["cell"],
            "stream": cell["stream"],
            "gateways": cell["gateways"],
            "contributors": cell["contributors"],
            "patients": cell["patients"],
            "sum": opened is not None,
            "exact": exact,
            "reason": cell["reason"],
        }

    async def _evaluate(self, model: dict[str, Any] | None) -> dict[str, Any] | None:
        """Accuracy on people who are not in the ward, by the model the server has now."""
        if model is None or self._held_out is None:
            return None
        evaluation = (await self._held_out).evaluate(model["words"], model["hidden"])
        return {
            "people": evaluation.persons,
            "first_s": _HELD_OUT_S,  # of each recording
            "beats": evaluation.beats,
            "accuracy": evaluation.accuracy,
            "majority": evaluation.majority,
            "macro_f1": evaluation.macro_f1,
            "model_version": model["version"],
        }


def _update_size(model: dict[str, Any] | None) -> dict[str, int] | None:
    if model is None:
        return None
    n_words = len(model["words"])
    frame = HEADER_BYTES + VECTOR_HEADER + vector_bytes(n_words) + MAC_BYTES
    return {"stream": STREAM_UPDATE, "words": n_words, "payload_bits": 32 * n_words, "frame_bytes": frame}
