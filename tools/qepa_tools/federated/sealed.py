"""A round's sums in the true protocol, in memory: boards seal, gateways strip and add, the server opens.

Every step is the code that runs in a hospital; only messages are passed by hand. Keys are drawn from a seed, so that
figures can be made again: never use this to protect anything.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qepa_gateway.domain.partial import partial_sum, strip_link_mask
from qepa_server.errors import UnmaskError
from qepa_server.unmask.opening import Contributor, Limits, OpenedSum, open_cell
from qepa_uplink.lighthe import seal_values
from qepa_uplink.messages import Partial, StreamSpec
from qepa_wire.discrete_gaussian import tail
from qepa_wire.keys import COHORT_CHECK, END_MASK, KEY_BYTES, LINK_MASK, derive
from qepa_wire.payloads import StreamOrder, terms_key

from .boards import Ints

Cells = Sequence[Sequence[int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a round asks for, as boards, gateways and the server know it."""

    round: int
    model: int
    spec: StreamSpec
    n_max: int
    min_group: int


class SealedWard:
    """Keys of a ward with one board a patient. A board's number is its place in ``names`` plus 1."""

    def __init__(self, names: Sequence[str], gateways: Sequence[str], rng: np.random.Generator) -> None:
        self._gateways = gateways
        self._links = [derive(rng.bytes(KEY_BYTES), LINK_MASK) for _ in names]
        self._ends = [derive(rng.bytes(KEY_BYTES), END_MASK) for _ in names]
        self._check = derive(rng.bytes(KEY_BYTES), COHORT_CHECK)
        self._pairs: dict[frozenset[str], bytes] = {}
        self._rng = rng
        self._records = {
            number: Contributor(name, gateway, end)
            for number, (name, gateway, end) in enumerate(zip(names, gateways, self._ends, strict=True), start=1)
        }

    def seal(self, words: Ints, terms: Terms) -> list[bytes]:
        """Return what each board sends: its words under link and end mask, with check values."""
        place = {"stream": terms.spec.stream, "round_": terms.round}
        key = self._terms_key(terms)
        pairs = zip(self._links, self._ends, strict=True)
        return [seal_values(row, masks, key, **place).to_bytes() for row, masks in zip(words, pairs, strict=True)]

    def strip(self, sealed: Sequence[bytes], terms: Terms) -> list[bytes]:
        """Take the link masks off, as gateways do when a vector arrives."""
        place = {"stream": terms.spec.stream, "round_": terms.round}
        return [strip_link_mask(vector, link, **place) for vector, link in zip(sealed, self._links, strict=True)]

    def add(self, stripped: Sequence[bytes], cells: Cells, terms: Terms) -> list[list[Partial]]:
        """Return the partial sums of each cell's gateways, pair masks on."""
        return [self._partials(stripped, members, number, terms) for number, members in enumerate(cells, start=1)]

    def open(self, partials: Sequence[Sequence[Partial]], terms: Terms) -> list[OpenedSum | str]:
        """Return each cell's sum; the sentence of the server's refusal where it does not open."""
        word_max = terms.spec.q_max + tail(terms.spec.noise_q8)
        limits = Limits(terms.spec.n_words, word_max, terms.n_max, terms.min_group)
        opened: list[OpenedSum | str] = []
        for own in partials:
            gateways = [partial.gateway for partial in own]
            place = {"round_": terms.round, "stream": terms.spec.stream}
            try:
                opened.append(open_cell(own, gateways, self._records, self._terms_key(terms), limits, **place))
            except UnmaskError as error:
                opened.append(str(error))
        return opened

    def sums(self, words: Ints, cells: Cells, terms: Terms) -> list[OpenedSum | str]:
        """Seal, strip, add and open: what becomes of each cell."""
        return self.open(self.add(self.strip(self.seal(words, terms), terms), cells, terms), terms)

    def _partials(self, stripped: Sequence[bytes], members: Sequence[int], cell: int, terms: Terms) -> list[Partial]:
        homes: dict[str, list[int]] = {}
        for board in members:
            homes.setdefault(self._gateways[board], []).append(board)
        made = []
        for gateway, boards in sorted(homes.items()):
            sealed = partial_sum(
                [stripped[board] for board in boards],
                {peer: self._pair(gateway, peer) for peer in homes if peer != gateway},
                gateway=gateway,
                cell=cell,
                stream=terms.spec.stream,
                round_=terms.round,
                n_words=terms.spec.n_words,
            )
            made.append(
                Partial(
                    id=f"{gateway}-{terms.round}-{cell}",
                    round=terms.round,
                    cell=cell,
                    stream=terms.spec.stream,
                    gateway=gateway,
                    contributors=tuple(board + 1 for board in boards),
                    patients=len(boards),
                    n_words=terms.spec.n_words,
                    sealed=sealed,
                    last_frame_ms=0,
                )
            )
        return made

    def _pair(self, one: str, other: str) -> bytes:
        key = self._pairs.get(frozenset((one, other)))
        if key is None:
            key = self._pairs[frozenset((one, other))] = self._rng.bytes(KEY_BYTES)
        return key

    def _terms_key(self, terms: Terms) -> bytes:
        spec = terms.spec
        order = StreamOrder(
            spec.stream, spec.n_words, spec.bound, spec.q_max, spec.rounding, spec.noise_q8, spec.clip_norm
        )
        return terms_key(self._check, terms.model, terms.n_max, order)
