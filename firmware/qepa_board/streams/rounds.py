"""One round: judge the order, then reserve, quantize, seal and queue, stream by stream."""

import asyncio
import os

from qepa_wire.discrete_gaussian import DiscreteGaussian
from qepa_wire.errors import WireError
from qepa_wire.keys import COHORT_CHECK, END_MASK, derive
from qepa_wire.keystream import STREAM_STATISTICS, STREAM_UPDATE
from qepa_wire.lighthe import seal
from qepa_wire.payloads import terms_key
from qepa_wire.quantizer import Quantizer, clip_l2
from qepa_wire.statistics import WORDS, scaled

NOISE_AT_A_TIME = 4  # words between two turns of the sampling task


def random_bits(count):
    """``count`` uniform bits as an int, from the hardware's generator."""
    return int.from_bytes(os.urandom((count + 7) // 8), "big") >> (-count % 8)


class Rounds:
    """Answers round orders with sealed vectors.

    counters: durable rounds; link: takes the vectors; models: ModelStore; statistics() -> 16 ints;
    update(models) -> signed ints, one for each word of the model in use.
    """

    def __init__(self, identity, counters, link, models, statistics, update):
        self._counters = counters
        self._link = link
        self._models = models
        self._statistics = statistics
        self._update = update
        self._end_mask = derive(identity.end_key, END_MASK)
        self._check_key = derive(identity.cohort_key, COHORT_CHECK)
        self._patient_boards = identity.patient_boards
        self._one_time = identity.suite == "otp"

    def judge(self, order):
        """Check ``order`` without side effects; returns a list of (StreamOrder, Quantizer) to be answered.

        Raises WireError with reason replay, stream, length or quantizer. A stream that was reserved before a power
        cut is left out; one whose model this board does not have is left out and counted as "model".
        """
        if order.round < self._counters.last_round():
            raise WireError("replay", "round %d" % order.round)
        todo = []
        spent = False
        for item in order.streams:
            expected = self._words(item.stream)
            quantizer = Quantizer(item.bound, item.q_max, order.n_max, item.rounding, random_bits, item.noise_q8)
            if item.stream == STREAM_UPDATE and (expected == 0 or order.model != self._models.version):
                self._link.refuse("model")
            elif item.n_words != expected:
                raise WireError("length", "stream %d of %d words" % (item.stream, item.n_words))
            elif order.round > self._counters.last_round(item.stream):
                todo.append((item, quantizer))
            else:
                spent = True
        if spent and not todo:
            raise WireError("replay", "round %d" % order.round)
        return todo

    def _words(self, stream):
        if stream == STREAM_STATISTICS:
            return WORDS
        if stream == STREAM_UPDATE:
            return 0 if self._models.words is None else len(self._models.words)
        raise WireError("stream", "%d" % stream)

    async def answer(self, order):
        """Judge ``order`` and answer it; gives way to the sampling task between the long steps.

        Returns how many vectors were queued.
        """
        todo = self.judge(order)
        model = self._models.version
        for item, quantizer in todo:
            stream = item.stream
            if stream == STREAM_UPDATE and self._models.version != model:
                self._link.refuse("model")  # replaced since the order was judged
                continue
            # Reserved before anything is computed: whatever happens from here on, this pair is spent.
            self._counters.reserve_round(stream, order.round)
            values = self._statistics() if stream == STREAM_STATISTICS else self._update(self._models)
            if item.noise_q8 and stream == STREAM_STATISTICS:
                values = scaled(values)
            await asyncio.sleep(0)
            if item.clip_norm:
                # The bound is the patient's: all boards together keep it if each keeps its part.
                values = clip_l2(values, item.clip_norm // self._patient_boards)
            words = [quantizer.quantize(value) for value in values]
            await asyncio.sleep(0)
            if item.noise_q8:
                await self._add_noise(words, item.noise_q8)
            check_key = terms_key(self._check_key, order.model, order.n_max, item)
            # No await between taking the epoch's key and queueing: a rekey must not come between.
            self._seal(words, check_key, stream, order.round, model)
            await asyncio.sleep(0)
        return len(todo)

    async def _add_noise(self, words, noise_q8):
        noise = DiscreteGaussian(noise_q8, random_bits)
        for i in range(len(words)):
            words[i] += noise.sample()
            if i % NOISE_AT_A_TIME == 0:
                await asyncio.sleep(0)

    def _seal(self, words, check_key, stream, round_, model):
        one_time = self._link.take_pad(len(words)) if self._one_time else None
        if one_time is None:
            sealed = seal(words, (self._link.epoch.mask_key, self._end_mask), check_key, stream, round_)
        else:
            sealed = seal(words, (self._end_mask,), check_key, stream, round_, (one_time.pad,))
        self._link.send_vector(round_, stream, model, sealed, one_time)
