"""Rounds as they happen: messages in, orders to boards, vectors, counts to peers, partial sums into the outbox."""

import logging
import os
from hashlib import sha256
from hmac import compare_digest

from qepa_uplink import envelope
from qepa_uplink.cells import contributors_digest
from qepa_uplink.messages import CellVoid, Count, Partial, Ready, RoundOpen, RoundStart
from qepa_wire.frame import ROUND, SUITE_OTP, Frame
from qepa_wire.keystream import STREAM_UPDATE
from qepa_wire.payloads import RoundOrder, StreamOrder, decode_vector, encode_round

from .boards import Board, Boards
from .domain.keyring import EpochKeys
from .domain.partial import partial_sum, strip_link_mask, strip_pad
from .domain.rounds import PeerCount, Phase, Round, RoundSpec, Share, ShareKey, StreamRule, check_spec
from .errors import Refused
from .models import Models
from .pairs import PairKeys
from .server_link import ServerLink
from .spool.database import Spool
from .spool.rounds import RoundStore, StoredCount
from .transport import Clock

_LOG = logging.getLogger(__name__)
_ORDER_AGAIN_MS = 3000
_COUNT_AGAIN_MS = 1000
_READY_AGAIN_MS = 2000
_KEPT_ROUNDS = 8
_NONCE_BYTES = 32


class _Active:
    """A round in memory with what is repeated for it."""

    def __init__(self, state: Round, opened: RoundOpen, ready: bytes, ready_until_ms: int) -> None:
        self.state = state
        self.opened = opened
        self.started: RoundStart | None = None
        self.ready = ready
        self.ready_until_ms = ready_until_ms
        self.counts: dict[ShareKey, bytes] = {}
        self.said_at_ms: dict[object, int] = {}

    def due(self, what: object, now_ms: int, every_ms: int) -> bool:
        """Whether ``what`` is to be said (again) now; if so, that is noted."""
        last_ms = self.said_at_ms.get(what)
        if last_ms is not None and 0 <= now_ms - last_ms < every_ms:
            return False
        self.said_at_ms[what] = now_ms
        return True


class Aggregation:
    """Every step is stored before its message leaves; a restart goes on where the spool says."""

    def __init__(
        self,
        spool: Spool,
        boards: Boards,
        link: ServerLink,
        pairs: PairKeys,
        models: Models,
        clock: Clock,
        *,
        min_group: int,
    ) -> None:
        self._spool = spool
        self._store = RoundStore(spool)
        self._boards = boards
        self._link = link
        self._pairs = pairs
        self._models = models
        self._clock = clock
        self._floor = min_group
        self._name = link.identity.name
        self._highest = self._store.highest()
        self._active: dict[int, _Active] = {}
        self._restore()
        link.handlers[RoundOpen] = self._take_open
        link.handlers[RoundStart] = self._take_start
        link.handlers[Count] = self._take_count

    def phases(self) -> dict[int, str]:
        """Rounds that are not over, for the bedside."""
        return {number: str(active.state.phase) for number, active in sorted(self._active.items())}

    def take_vector(self, board: Board, keys: EpochKeys, frame: Frame) -> None:
        """Handle an authentic VECTOR frame: the link mask comes off before it is stored."""
        vector = decode_vector(frame.payload)
        active = self._active.get(vector.round)
        if active is None:
            raise Refused("late" if vector.round <= self._highest else "round", f"round {vector.round}")
        active.state.admit_vector(board.number, vector.stream, vector.n_words, vector.model)
        if frame.suite == SUITE_OTP:
            stripped = strip_pad(vector.sealed, frame.pad)
        else:
            stripped = strip_link_mask(vector.sealed, keys.mask, stream=vector.stream, round_=vector.round)
        self._store.add_vector(vector.round, board.number, vector.stream, stripped, self._clock())
        active.state.arrived(board.number, vector.stream)
        if vector.stream == STREAM_UPDATE:
            self._models.uses(board, vector.model)

    def greet(self, board: Board) -> None:
        """A board said HELLO: order at the next tick what is still missing of it."""
        for active in self._active.values():
            active.said_at_ms.pop(("order", board.number), None)

    def tick(self) -> None:
        """Orders, freezes, counts, sums: whatever is due."""
        if not self._active:
            return
        with self._spool.transaction():
            for _, active in sorted(self._active.items()):
                self._advance(active)

    def _advance(self, active: _Active) -> None:
        now_ms, state = self._clock(), active.state
        if state.phase is Phase.READY:
            if now_ms < active.ready_until_ms and active.due("ready", now_ms, _READY_AGAIN_MS):
                self._link.send_server(active.ready)
            return
        self._prepare_pairs(active)
        for cell in state.to_freeze(now_ms):
            for share in state.freeze(cell):
                self._store.freeze(state.number, _key(share), share.contributors)
        self._order(active)
        for key, share in sorted(state.shares.items()):
            if share.phase is Phase.FROZEN:
                self._count(active, key, share)
            if key in active.counts and now_ms < state.settle_until_ms and active.due(key, now_ms, _COUNT_AGAIN_MS):
                for peer in self._peers(share):
                    self._link.send_gateway(peer, active.counts[key])
            if share.phase is Phase.COUNTED:
                self._settle(active, key, share)
        if state.settled and (now_ms >= state.settle_until_ms or not any(map(self._peers, state.shares.values()))):
            self._close(state.number)

    def _order(self, active: _Active) -> None:
        state, now_ms = active.state, self._clock()
        for number in state.patients:
            if not state.missing(number):
                continue
            try:
                board = self._boards.get(number)
            except Refused:
                continue  # its adoption ended during the round
            if board.is_online(now_ms) and active.due(("order", number), now_ms, _ORDER_AGAIN_MS):
                if board.row.model < state.spec.model_version:
                    self._models.push(board)
                self._boards.send_down(board, ROUND, encode_round(_order_of(state, number, now_ms)))

    def _count(self, active: _Active, key: ShareKey, share: Share) -> None:
        own = active.state.count_own(key)
        message = Count(
            round=active.state.number,
            cell=key[0],
            stream=key[1],
            gateway=self._name,
            patients=own.patients,
            boards=own.boards,
            contributors_digest=contributors_digest(share.contributors),
        )
        active.counts[key] = self._link.sign(message)
        self._store.set_count(active.state.number, key, active.counts[key])

    def _settle(self, active: _Active, key: ShareKey, share: Share) -> None:
        state = active.state
        keys = {peer: key_ for peer in self._peers(share) if (key_ := self._pairs.get(peer)) is not None}
        reason = state.verdict(key, self._clock(), usable=keys)
        if reason is None:
            return
        id_ = f"{self._name}-{state.number}-{key[0]}-{key[1]}"
        if reason:
            void = CellVoid(
                id=id_, round=state.number, cell=key[0], stream=key[1], gateway=self._name, reason=reason[:200]
            )
            self._link.submit(id_, void)
        else:
            self._link.submit(id_, self._partial(id_, state, share, keys))
        share.reason = reason
        share.move(Phase.VOID if reason else Phase.SUBMITTED)
        self._store.conclude(state.number, key, share.phase, reason)
        _LOG.info(
            "share round=%d cell=%d stream=%d %s boards=%d patients=%d reason=%s",
            state.number,
            *key,
            share.phase,
            len(share.contributors),
            share.patients,
            reason or "-",
        )

    def _partial(self, id_: str, state: Round, share: Share, keys: dict[str, bytes]) -> Partial:
        cell, stream = _key(share)
        stored = self._store.vectors(state.number, stream)
        sealed = partial_sum(
            [stored[board][0] for board in share.contributors],
            keys,
            gateway=self._name,
            cell=cell,
            stream=stream,
            round_=state.number,
            n_words=share.rule.n_words,
        )
        return Partial(
            id=id_,
            round=state.number,
            cell=cell,
            stream=stream,
            gateway=self._name,
            contributors=share.contributors,
            patients=share.patients,
            n_words=share.rule.n_words,
            sealed=sealed,
            last_frame_ms=max((stored[board][1] for board in share.contributors), default=0),
        )

    def _peers(self, share: Share) -> list[str]:
        return [name for name in share.cell.gateways if name != self._name]

    def _prepare_pairs(self, active: _Active) -> None:
        now_ms = self._clock()
        for peer in {peer for share in active.state.shares.values() for peer in self._peers(share)}:
            # Once a round the lesser name offers, in case the other lost the offer; missing keys are asked for again.
            again_ms = _COUNT_AGAIN_MS if peer < self._name else 1 << 60
            if active.due(("pair", peer), now_ms, again_ms):
                self._pairs.prepare(peer)

    def _take_open(self, message: RoundOpen, _sender: str) -> None:
        active = self._active.get(message.round)
        if active is not None:
            if active.opened != message:
                raise Refused("equivocation", f"a second opening of round {message.round}")
            active.said_at_ms.pop("ready", None)
            return
        if message.round <= self._highest:
            raise Refused("round_old", f"{message.round} after {self._highest}")
        spec = _spec(message)
        check_spec(spec, floor=self._floor)
        nonce = os.urandom(_NONCE_BYTES)
        barred = self._barred(spec)
        streams = {rule.stream for rule in spec.streams}
        asked = {
            number: patient
            for number, patient in self._boards.patients_online().items()
            if any((number, stream) not in barred for stream in streams)
        }
        state = Round(spec, self._name, nonce, asked, barred)
        ready = self._link.sign(
            Ready(
                round=message.round,
                gateway=self._name,
                nonce=nonce,
                commitment=message.commitment,
                patients=state.n_patients,
            )
        )
        with self._spool.transaction():
            self._store.open(message.round, message.model_dump_json().encode(), nonce, state.patients, ready)
            for number, other in list(self._active.items()):
                if other.state.phase is Phase.READY:
                    self._close(number)  # the server never started it
        self._highest = message.round
        self._active[message.round] = _Active(state, message, ready, self._clock() + message.ready_within_ms)

    def _barred(self, spec: RoundSpec) -> set[tuple[int, int]]:
        return self._boards.barred(rule.stream for rule in spec.streams)

    def _take_start(self, message: RoundStart, _sender: str) -> None:
        active = self._active.get(message.round)
        if active is None:
            if self._store.started(message.round) == message.model_dump_json().encode():
                return  # repeated after the end
            raise Refused("round_old" if message.round <= self._highest else "round", f"start of {message.round}")
        if active.started is not None:
            if active.started.server_nonce != message.server_nonce or active.started.readies != message.readies:
                raise Refused("equivocation", f"a second start of round {message.round}")
            return
        if not compare_digest(sha256(message.server_nonce).digest(), active.opened.commitment):
            raise Refused("commitment", f"nonce of round {message.round}")
        readies = self._readies(message, active)
        now_ms = self._clock()
        active.state.start(message.server_nonce, readies, now_ms)
        active.started = message
        with self._spool.transaction():
            self._store.start(message.round, message.model_dump_json().encode(), readies, now_ms)
        _LOG.info("round number=%d gateways=%d shares=%d", message.round, len(readies), len(active.state.shares))

    def _readies(self, message: RoundStart, active: _Active) -> dict[str, tuple[bytes, int]]:
        readies: dict[str, tuple[bytes, int]] = {}
        for data in message.readies:
            parsed = envelope.parse(data)
            try:
                ready = self._link.open_from(parsed)
            except Refused:
                self._link.renew()  # the server names a gateway that the directory held here does not have
                raise
            if not isinstance(ready, Ready) or ready.gateway != parsed.sender or ready.gateway in readies:
                raise Refused("ready", f"of {parsed.sender}")
            if ready.round != message.round or ready.commitment != active.opened.commitment:
                raise Refused("ready", f"{parsed.sender} answered another opening")
            readies[ready.gateway] = (ready.nonce, ready.patients)
        own = readies.get(self._name)
        if own is None:
            raise Refused("ready", "own is missing")
        if own != (active.state.nonce, active.state.n_patients):
            raise Refused("ready", "own was altered")
        return readies

    def _take_count(self, message: Count, sender: str) -> None:
        if message.gateway != sender:
            raise Refused("count", f"{sender} counts for {message.gateway}")
        active = self._active.get(message.round)
        if active is None or active.state.phase is not Phase.STARTED:
            return  # repeated until it settles; before the start and after the end there is nothing to do
        key = (message.cell, message.stream)
        digest = sha256(message.model_dump_json().encode()).digest()
        known = self._store.count(message.round, key, sender)
        if known is not None:
            if known.digest != digest:
                raise Refused("equivocation", f"a second count of {sender} in round {message.round}")
            return
        active.state.count_peer(key, sender, PeerCount(message.patients, message.boards))
        with self._spool.transaction():
            self._store.add_count(message.round, StoredCount(key, sender, message.patients, message.boards, digest))

    def _close(self, number: int) -> None:
        self._store.close(number, keep=_KEPT_ROUNDS)
        self._active.pop(number, None)

    def _restore(self) -> None:
        for row in self._store.load():
            if row.closed:
                continue
            opened = RoundOpen.model_validate_json(row.opened)
            spec = _spec(opened)
            state = Round(spec, self._name, row.nonce, row.patients, self._barred(spec))
            active = _Active(state, opened, row.ready, self._clock() + opened.ready_within_ms)
            self._active[row.round] = active
            if row.started is None:
                continue
            active.started = RoundStart.model_validate_json(row.started)
            state.start(active.started.server_nonce, row.readies, row.started_ms)
            for board, stream in self._store.arrived(row.round):
                state.arrived(board, stream)
            for stored in self._store.shares(row.round):
                state.restore_frozen(stored.key, stored.contributors)
                if stored.count is not None:
                    active.counts[stored.key] = stored.count
                    state.count_own(stored.key)
                if stored.phase in (Phase.SUBMITTED, Phase.VOID):
                    state.shares[stored.key].move(stored.phase)
            for count in self._store.counts(row.round):
                state.count_peer(count.key, count.gateway, PeerCount(count.patients, count.boards))
            _LOG.info("round restored number=%d", row.round)


def _key(share: Share) -> ShareKey:
    return share.cell.id, share.rule.stream


def _spec(message: RoundOpen) -> RoundSpec:
    return RoundSpec(
        round=message.round,
        commitment=message.commitment,
        model_version=message.model_version,
        streams=tuple(
            StreamRule(each.stream, each.n_words, each.bound, each.q_max, each.rounding, each.noise_q8, each.clip_norm)
            for each in message.streams
        ),
        n_max=message.n_max,
        min_group=message.min_group,
        cell_target=message.cell_target,
        collect_within_ms=message.collect_within_ms,
        settle_within_ms=message.settle_within_ms,
    )


def _order_of(state: Round, board: int, now_ms: int) -> RoundOrder:
    spec = state.spec
    streams = [
        StreamOrder(rule.stream, rule.n_words, rule.bound, rule.q_max, rule.rounding, rule.noise_q8, rule.clip_norm)
        for rule in state.rules_for(board)
    ]
    left_ms = max(1, state.collect_until_ms - now_ms)
    return RoundOrder(spec.round, spec.model_version, left_ms, spec.n_max, streams)
