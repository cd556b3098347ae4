"""What a board does before it seals: clipping for the whole patient, its share of noise, and neither unless asked."""

import asyncio
import math
from types import SimpleNamespace

import pytest

from qepa_board.streams import rounds as rounds_module
from qepa_board.streams.rounds import Rounds
from qepa_wire.discrete_gaussian import tail
from qepa_wire.errors import WireError
from qepa_wire.payloads import RoundOrder, StreamOrder

VALUES = [((37 * k) % 401 - 200) * 5 for k in range(240)]
MODELS = SimpleNamespace(version=3, model=object(), words=[0] * 240)


class Counters:
    def last_round(self, _stream=None):
        return 0

    def reserve_round(self, stream, round_):
        pass


class Link:
    epoch = SimpleNamespace(mask_key=bytes(32))

    def refuse(self, reason):
        raise AssertionError(reason)

    def send_vector(self, round_, stream, model, sealed, one_time=None):
        pass


@pytest.fixture
def words(monkeypatch):
    """Answer an order; return the words that were sealed."""

    def answer(noise_q8=0, clip_norm=0, patient_boards=1, q_max=1024, n_max=100):
        sealed = []
        monkeypatch.setattr(rounds_module, "seal", lambda words, *_: sealed.append(list(words)) or bytes(16))
        identity = SimpleNamespace(
            end_key=bytes(32), cohort_key=bytes(32), patient_boards=patient_boards, suite="aes256"
        )
        rounds = Rounds(identity, Counters(), Link(), MODELS, list, lambda _: list(VALUES))
        order = StreamOrder(2, 240, 1024, q_max, 0, noise_q8, clip_norm)
        asyncio.run(rounds.answer(RoundOrder(1, 3, 1000, n_max, [order])))
        return sealed[0]

    return answer


def norm(values):
    return math.sqrt(sum(value * value for value in values))


def test_without_noise_and_clipping_the_words_are_the_values(words):
    assert words() == VALUES


@pytest.mark.parametrize("noise_q8", [256, 9 * 256])
def test_each_word_gets_a_share_of_the_ordered_variance(words, noise_q8):
    shares = [a - b for a, b in zip(words(noise_q8), VALUES, strict=True)]
    variance = sum(share * share for share in shares) / len(shares)
    # 240 draws: the estimate's standard deviation is about 9 %; five of them
    assert 0.5 < variance / (noise_q8 / 256) < 1.5
    assert max(map(abs, shares)) < tail(noise_q8)
    assert shares != [a - b for a, b in zip(words(noise_q8), VALUES, strict=True)], "drawn afresh each time"


@pytest.mark.parametrize("patient_boards", [1, 2, 7])
def test_all_boards_of_a_patient_together_keep_the_patients_bound(words, patient_boards):
    clip_norm = 3072
    assert norm(VALUES) > clip_norm
    clipped = words(clip_norm=clip_norm, patient_boards=patient_boards)
    assert norm(clipped) <= clip_norm / patient_boards
    assert norm([patient_boards * word for word in clipped]) <= clip_norm  # the worst: all boards send the same
    assert norm(clipped) > 0.97 * clip_norm / patient_boards


def test_a_value_within_the_bound_is_left_alone(words):
    assert words(clip_norm=10**6) == VALUES


def test_noise_that_could_make_a_sum_wrap_is_refused_before_anything_is_sealed(words):
    q_max = 2**31 // 100 - 5
    words(q_max=q_max)
    with pytest.raises(WireError) as refused:
        words(q_max=q_max, noise_q8=256)
    assert refused.value.reason == "quantizer"
