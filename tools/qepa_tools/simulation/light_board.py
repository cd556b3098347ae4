"""A board as its gateway sees it: the wire code of the firmware, none of its sensors, one Python object.

What the firmware does in ``qepa_board/streams/rounds.py`` for an order is done here in the same order with the same
functions: clip, quantize, add noise, seal under link and end mask with the check values of the order's terms.
"""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache

from qepa_wire import frame, keys, lms
from qepa_wire.errors import WireError
from qepa_wire.keystream import STREAM_STATISTICS, STREAM_UPDATE
from qepa_wire.lighthe import seal
from qepa_wire.model import CONTEXT, decode_model, decode_release
from qepa_wire.payloads import (
    Hello,
    RoundOrder,
    StreamOrder,
    decode_ack,
    decode_round,
    encode_hello,
    encode_vector,
    terms_key,
)
from qepa_wire.quantizer import Quantizer, clip_l2
from qepa_wire.statistics import WORDS, scaled

Values = Callable[[int, int, int, int], list[int]]  # board, round, stream, words
Noise = Callable[[int, int], list[int]]  # noise_q8, words
Sealed = Callable[[int, int, int, list[int]], None]  # round, stream, board, words

_FULL_BATTERY_PERMILLE = 1000


@dataclass(frozen=True, slots=True)
class Provision:
    """What the dock gave a board. ``repr`` shows no key."""

    board: int
    patient: str
    gateway: str
    patient_boards: int
    end_key: bytes = field(repr=False)
    cohort_key: bytes = field(repr=False)
    model_root: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class World:
    """What is outside a board: pads, what it measures, noise, whether it is silent in a round, who knows the truth."""

    pad: Callable[[bytes], bytes]
    values: Values
    noise: Noise
    is_silent: Callable[[int, int], bool]
    sealed: Sealed


@lru_cache(maxsize=4)
def _verified_version(model_root: bytes, release: bytes) -> int:
    """Version of a release whose signature holds: each distinct one is verified once a process, not once a board."""
    blob, signature = decode_release(release)
    lms.verify(model_root, CONTEXT + blob, signature)
    return int(decode_model(blob).version)


class LightBoard:
    """Frames in, frames out. Frames that need an acknowledgement stay in ``outbox`` until it comes."""

    def __init__(self, provision: Provision, world: World) -> None:
        self.number = provision.board
        self.gateway = provision.gateway
        self._patient_boards = provision.patient_boards
        self._model_root = provision.model_root
        self._end_mask = keys.derive(provision.end_key, keys.END_MASK)
        self._check_key = keys.derive(provision.cohort_key, keys.COHORT_CHECK)
        self._world = world
        self._boots = self._epoch = self._seq = self._down_seq = 0
        self._key_id = b""
        self._answered = {STREAM_STATISTICS: 0, STREAM_UPDATE: 0}
        self.model = 0
        self.outbox: dict[int, bytes] = {}
        self.refused = 0

    def boot(self) -> bytes:
        """Begin an epoch with a fresh pad; returns the HELLO."""
        self._boots += 1
        self._epoch += 1
        self._down_seq = 0
        self._key_id = os.urandom(16)
        link = self._world.pad(self._key_id)
        self._mask = keys.derive(link, keys.LINK_MASK)
        self._mac_up = keys.derive(link, keys.LINK_MAC_UP)
        self._mac_down = keys.derive(link, keys.LINK_MAC_DOWN)
        return self._hello()

    def receive(self, data: bytes) -> list[bytes]:
        """Take a frame of the gateway; returns the frames to send. What is refused is counted."""
        try:
            parsed = frame.parse(data, frame.DOWN_TYPES)
            if parsed.epoch != self._epoch:
                return []
            frame.authenticate(data, self._mac_down)
            if parsed.seq <= self._down_seq:
                return []
            self._down_seq = parsed.seq
            return list(self._obey(parsed.type, parsed.payload))
        except WireError:
            self.refused += 1
            return []

    def _obey(self, type_: int, payload: bytes) -> Iterable[bytes]:
        if type_ == frame.ACK:
            for seq in decode_ack(payload):
                self.outbox.pop(seq, None)
        elif type_ == frame.ROUND:
            yield from self._answer(decode_round(payload))
        elif type_ == frame.MODEL:
            version = _verified_version(self._model_root, payload)
            if version > self.model:
                self.model = version
                yield self._hello()

    def _answer(self, order: RoundOrder) -> Iterable[bytes]:
        if self._world.is_silent(self.number, order.round):
            return
        for item in order.streams:
            if order.round <= self._answered[item.stream]:
                continue
            if item.stream == STREAM_UPDATE and order.model != self.model:
                continue  # ordered again when the model has come
            self._answered[item.stream] = order.round
            words = self._words(order, item)
            self._world.sealed(order.round, item.stream, self.number, words)
            key = terms_key(self._check_key, order.model, order.n_max, item)
            sealed = seal(words, (self._mask, self._end_mask), key, item.stream, order.round)
            yield self._keep(frame.VECTOR, encode_vector(order.round, item.stream, self.model, sealed))

    def _words(self, order: RoundOrder, item: StreamOrder) -> list[int]:
        values = self._world.values(self.number, order.round, item.stream, item.n_words)
        if item.stream == STREAM_STATISTICS and item.noise_q8:
            values = list(scaled(values[:WORDS]))
        if item.clip_norm:
            values = list(clip_l2(values, item.clip_norm // self._patient_boards))
        quantizer = Quantizer(item.bound, item.q_max, order.n_max, item.rounding, None, item.noise_q8)
        words = [quantizer.quantize(value) for value in values]
        if item.noise_q8:
            noise = self._world.noise(item.noise_q8, len(words))
            words = [word + more for word, more in zip(words, noise, strict=True)]
        return words

    def _hello(self) -> bytes:
        state = (self._boots, self.model, 0, 1, _FULL_BATTERY_PERMILLE, 1, 0)
        return self._keep(frame.HELLO, encode_hello(Hello(self._key_id, 0, *state)))

    def _keep(self, type_: int, payload: bytes) -> bytes:
        self._seq += 1
        data = self.outbox[self._seq] = frame.encode(type_, self.number, self._epoch, self._seq, payload, self._mac_up)
        return data
