"""One round as the gateway sees it: a table of phases and the decisions between them. No I/O, no clock.

A *share* is what this gateway gives to one cell in one stream. Times are milliseconds of the caller's clock.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from qepa_uplink.cells import Cell, assign_patients, draw_cells, round_seed
from qepa_uplink.errors import UplinkError
from qepa_wire.errors import WireError
from qepa_wire.keystream import STREAM_UPDATE
from qepa_wire.quantizer import Quantizer

from ..errors import GatewayError, Refused


class Phase(StrEnum):
    """Phases of a round up to ``STARTED``, of each of its shares from ``COLLECTING`` on."""

    OPEN = "open"
    READY = "ready"
    STARTED = "started"
    COLLECTING = "collecting"
    FROZEN = "frozen"
    COUNTED = "counted"
    SUBMITTED = "submitted"
    VOID = "void"


NEXT: Mapping[Phase, frozenset[Phase]] = {
    Phase.OPEN: frozenset({Phase.READY}),
    Phase.READY: frozenset({Phase.STARTED, Phase.VOID}),
    Phase.STARTED: frozenset(),
    Phase.COLLECTING: frozenset({Phase.FROZEN}),
    Phase.FROZEN: frozenset({Phase.COUNTED}),
    Phase.COUNTED: frozenset({Phase.SUBMITTED, Phase.VOID}),
    Phase.SUBMITTED: frozenset(),
    Phase.VOID: frozenset(),
}


@dataclass(frozen=True, slots=True)
class StreamRule:
    """What one stream asks of each board."""

    stream: int
    n_words: int
    bound: int
    q_max: int
    rounding: int
    noise_q8: int
    clip_norm: int


@dataclass(frozen=True, slots=True)
class RoundSpec:
    """What a RoundOpen fixes."""

    round: int
    commitment: bytes
    model_version: int
    streams: tuple[StreamRule, ...]
    n_max: int
    min_group: int
    cell_target: int
    collect_within_ms: int
    settle_within_ms: int


def check_spec(spec: RoundSpec, *, floor: int) -> None:
    """Refuse a round that could show too little a group or overflow a sum.

    Raises Refused("min_group"), ("cells"), ("streams") or ("quantizer"), the last with the arithmetic.
    """
    if spec.min_group < floor:
        raise Refused("min_group", f"round {spec.round} asks for {spec.min_group}, own floor is {floor}")
    if spec.cell_target < spec.min_group:
        raise Refused("cells", f"cell_target {spec.cell_target} is below min_group {spec.min_group}")
    if len({rule.stream for rule in spec.streams}) != len(spec.streams):
        raise Refused("streams", "a stream is asked for twice")
    for rule in spec.streams:
        try:
            Quantizer(rule.bound, rule.q_max, spec.n_max, rule.rounding, lambda _bits: 0, rule.noise_q8)
        except WireError as error:
            raise Refused("quantizer", str(error)) from error


@dataclass(frozen=True, slots=True)
class PeerCount:
    """What one gateway froze for a share."""

    patients: int
    boards: int


@dataclass(slots=True)
class Share:
    """This gateway's part of (cell, stream)."""

    cell: Cell
    rule: StreamRule
    phase: Phase = Phase.COLLECTING
    contributors: tuple[int, ...] = ()
    patients: int = 0
    counts: dict[str, PeerCount] = field(default_factory=dict)
    reason: str = ""

    def move(self, phase: Phase) -> None:
        """Go to ``phase``; raises GatewayError for a step that the table does not have."""
        if phase not in NEXT[self.phase]:
            raise GatewayError(f"a share cannot go from {self.phase} to {phase}")
        self.phase = phase


ShareKey = tuple[int, int]  # cell, stream


class Round:
    """Round ``spec.round``: who may contribute, what has arrived, which shares are frozen.

    ``patients`` maps each board to its patient as of the Ready message; it does not change afterwards. ``barred`` are
    (board, stream) that are not asked for.
    """

    def __init__(
        self,
        spec: RoundSpec,
        gateway: str,
        nonce: bytes,
        patients: Mapping[int, str],
        barred: Collection[tuple[int, int]] = (),
    ) -> None:
        self.spec = spec
        self.gateway = gateway
        self.nonce = nonce
        self.patients = dict(patients)
        self._barred = frozenset(barred)
        self.phase = Phase.READY
        self.shares: dict[ShareKey, Share] = {}
        self.collect_until_ms = 0
        self.settle_until_ms = 0
        self._cell_of: dict[int, int] = {}
        self._arrived: set[tuple[int, int]] = set()

    @property
    def number(self) -> int:
        """The round's number."""
        return self.spec.round

    @property
    def n_patients(self) -> int:
        """Distinct patients, as Ready says."""
        return len(set(self.patients.values()))

    @property
    def settled(self) -> bool:
        """Whether nothing more will come of this round."""
        done = (Phase.SUBMITTED, Phase.VOID)
        return self.phase is Phase.VOID or (
            self.phase is Phase.STARTED and all(share.phase in done for share in self.shares.values())
        )

    def start(self, server_nonce: bytes, readies: Mapping[str, tuple[bytes, int]], now_ms: int) -> None:
        """Draw the cells from everyone's nonces; ``readies`` maps each gateway to (nonce, patients), own included.

        Raises Refused("phase") if it has started before, Refused("cells") for a setting that draws none.
        """
        if Phase.STARTED not in NEXT[self.phase]:
            raise Refused("phase", f"round {self.number} is {self.phase}")
        seed = round_seed(self.number, server_nonce, {name: nonce for name, (nonce, _) in readies.items()})
        counts = {name: patients for name, (_, patients) in readies.items()}
        try:
            cells = draw_cells(seed, counts, min_group=self.spec.min_group, target=self.spec.cell_target)
        except UplinkError as error:
            raise Refused("cells", str(error)) from error
        cell_of_patient = assign_patients(seed, self.gateway, set(self.patients.values()), cells)
        self._cell_of = {
            board: cell_of_patient[patient] for board, patient in self.patients.items() if patient in cell_of_patient
        }
        self.shares = {
            (cell.id, rule.stream): Share(cell, rule)
            for cell in cells
            if self.gateway in cell.gateways
            for rule in self.spec.streams
        }
        self.phase = Phase.STARTED
        self.collect_until_ms = now_ms + self.spec.collect_within_ms
        self.settle_until_ms = self.collect_until_ms + self.spec.settle_within_ms

    def admit_vector(self, board: int, stream: int, n_words: int, model: int) -> int:
        """Return the cell of a vector that is to be stored.

        Raises Refused: ``late`` (the share is frozen), ``round`` (not collecting, or the board has no part in it),
        ``stream``, ``barred`` (that board is not to be asked for it), ``words``, ``model`` (an update against another
        model), ``vector`` (a second one).
        """
        cell = self._cell_of.get(board)
        if self.phase is not Phase.STARTED or cell is None:
            raise Refused("round", f"board {board:08x} has no part in round {self.number}")
        share = self.shares.get((cell, stream))
        if share is None:
            raise Refused("stream", f"{stream} was not asked for")
        if (board, stream) in self._barred:
            raise Refused("barred", f"board {board:08x} is not asked for stream {stream}")
        if (board, stream) in self._arrived:
            raise Refused("vector", f"a second one of board {board:08x} in round {self.number}, stream {stream}")
        if share.phase is not Phase.COLLECTING:
            raise Refused("late", f"round {self.number} is {share.phase}")
        if n_words != share.rule.n_words:
            raise Refused("words", f"{n_words}, not {share.rule.n_words}")
        if stream == STREAM_UPDATE and model != self.spec.model_version:
            raise Refused("model", f"update against version {model}, not {self.spec.model_version}")
        return cell

    def arrived(self, board: int, stream: int) -> None:
        """Note that the vector of (board, stream) is stored."""
        self._arrived.add((board, stream))

    def missing(self, board: int) -> bool:
        """Whether vectors of ``board`` are asked for, not there, and would still be taken."""
        cell = self._cell_of.get(board)
        return cell is not None and any(
            (board, rule.stream) not in self._arrived
            and (board, rule.stream) not in self._barred
            and self.shares[cell, rule.stream].phase is Phase.COLLECTING
            for rule in self.spec.streams
        )

    def rules_for(self, board: int) -> list[StreamRule]:
        """What ``board`` is asked for."""
        return [rule for rule in self.spec.streams if (board, rule.stream) not in self._barred]

    def to_freeze(self, now_ms: int) -> list[int]:
        """Cells whose vectors are all in, or whose time is over."""
        cells = sorted({cell for (cell, _), share in self.shares.items() if share.phase is Phase.COLLECTING})
        if now_ms >= self.collect_until_ms:
            return cells
        waiting = {self._cell_of[board] for board in self._cell_of if self.missing(board)}
        return [cell for cell in cells if cell not in waiting]

    def freeze(self, cell: int) -> list[Share]:
        """Fix the contributor lists of ``cell`` for good; return its shares, own count included."""
        frozen = [share for (id_, _), share in sorted(self.shares.items()) if id_ == cell]
        for share in frozen:
            stream = share.rule.stream
            boards = (board for board, id_ in self._cell_of.items() if id_ == cell)
            contributors = tuple(sorted(board for board in boards if (board, stream) in self._arrived))
            self.restore_frozen((cell, stream), contributors)
        return frozen

    def restore_frozen(self, key: ShareKey, contributors: tuple[int, ...]) -> None:
        """Set the contributor list of a share, now or as it was stored."""
        share = self.shares[key]
        share.contributors = contributors
        share.patients = len({self.patients[board] for board in contributors})
        share.move(Phase.FROZEN)

    def count_own(self, key: ShareKey) -> PeerCount:
        """The Count of a frozen share goes out: enter it among the cell's counts."""
        share = self.shares[key]
        share.move(Phase.COUNTED)
        own = PeerCount(share.patients, len(share.contributors))
        share.counts[self.gateway] = own
        return own

    def count_peer(self, key: ShareKey, gateway: str, count: PeerCount) -> None:
        """Enter a peer's Count; raises Refused("count") for a gateway that has no part in the cell."""
        share = self.shares.get(key)
        if share is None or gateway not in share.cell.gateways or gateway == self.gateway:
            raise Refused("count", f"{gateway} has no part in cell {key[0]} of round {self.number}")
        share.counts.setdefault(gateway, count)

    def verdict(self, key: ShareKey, now_ms: int, *, usable: Iterable[str]) -> str | None:
        """Decide about a COUNTED share: None = wait, "" = submit, else the reason why the cell gives no sum.

        ``usable`` are the peers with a valid certificate and a pair key.
        """
        share = self.shares[key]
        peers = [name for name in share.cell.gateways if name != self.gateway]
        silent = [name for name in peers if name not in share.counts]
        unusable = sorted(set(peers) - set(usable))
        if silent or unusable:
            if now_ms < self.settle_until_ms:
                return None
            return f"no count of {', '.join(silent)}" if silent else f"no key with {', '.join(unusable)}"
        patients = sum(count.patients for count in share.counts.values())
        boards = sum(count.boards for count in share.counts.values())
        if patients < self.spec.min_group:
            return f"min_group: {patients} patients, {self.spec.min_group} needed"
        if boards > self.spec.n_max:
            return f"n_max: {boards} boards, at most {self.spec.n_max}"
        return ""
