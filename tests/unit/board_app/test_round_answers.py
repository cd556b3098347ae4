"""What a board answers to an order: never an update of another model than it says."""

import asyncio
from types import SimpleNamespace

from qepa_board.keys.counters import Counters
from qepa_board.streams.rounds import Rounds
from qepa_wire.payloads import RoundOrder, StreamOrder

IDENTITY = SimpleNamespace(end_key=bytes(32), cohort_key=bytes(range(32)), patient_boards=1, suite="aes256")
ORDER = RoundOrder(5, 3, 1000, 10, [StreamOrder(1, 16, 10, 10, 0, 0, 0), StreamOrder(2, 4, 10, 10, 0, 0, 0)])


class Link:
    """Keeps what it is given."""

    def __init__(self):
        self.epoch = SimpleNamespace(mask_key=bytes(range(32)))
        self.sent, self.refused = [], []

    def send_vector(self, round_, stream, model, _sealed, _one_time):
        self.sent.append((round_, stream, model))

    def refuse(self, reason):
        self.refused.append(reason)


def answer(flash, statistics, models):
    link, counters = Link(), Counters.create(flash)
    rounds = Rounds(IDENTITY, counters, link, models, statistics, lambda models: [1] * len(models.words))
    asyncio.run(rounds.answer(ORDER))
    return link, counters


def test_both_streams_are_answered(flash):
    link, _ = answer(flash, lambda: [1] * 16, SimpleNamespace(version=3, words=[0] * 4))
    assert link.sent == [(5, 1, 3), (5, 2, 3)]


def test_a_model_that_is_replaced_while_statistics_are_sealed_gives_no_update(flash):
    models = SimpleNamespace(version=3, words=[0] * 4)

    def statistics():
        models.version, models.words = 4, [0] * 9
        return [1] * 16

    link, counters = answer(flash, statistics, models)
    assert link.sent == [(5, 1, 3)]
    assert link.refused == ["model"]
    assert counters.last_round(2) < 5
