"""What is said of a beat: in the field's terms, with the right number, and when it is unlike anything."""

import numpy as np
import pytest

from qepa_board.learning.features import LIMIT, NAMES, ONE
from qepa_server.explain.background import Background
from qepa_server.explain.beat import PARTS, all_attributions, attributions, explain_beat
from qepa_server.explain.network import Network
from qepa_server.explain.vocabulary import LIMIT as CLIPPED
from qepa_server.explain.vocabulary import vocabulary

CLASSES = ("N", "S", "V", "F")


def row(**values: float) -> np.ndarray:
    assert set(values) <= set(NAMES)
    return np.array([values.get(name, 0.0) for name in NAMES])


def test_every_feature_of_the_board_has_words_a_part_and_expectations() -> None:
    assert set(NAMES) == vocabulary().names
    assert CLIPPED == LIMIT / ONE
    for name in NAMES:
        words = vocabulary()[name]
        assert set(words.parts) <= set(PARTS)
        assert set(words.expect) == set("NSV")
        assert words.why
        assert words.source
        assert len({words.phrase(words.middle), words.phrase(words.middle + 2)}) == 2


@pytest.mark.parametrize(
    ("name", "value", "phrase"),
    [
        ("rr_pre_local", -0.34, "came 34 % early by the last eight intervals"),
        ("rr_pre_local", 0.02, "came in time by the last eight intervals"),
        ("shape_early", -0.25, "a QRS of a shape that mostly comes early, by 25 %"),
        ("width_ratio", 0.8, "QRS 40 % wider than this patient's usual"),
        ("width_ratio", 4.0, "QRS at least 200 % wider than this patient's usual"),
        ("turned", 0.5, "QRS turned up or down by 50 % of its height more than this patient's beats mostly are"),
        ("p_unlike", 1.0, "no P wave like this patient's usual, in a regular rhythm (100 % more unlike than most)"),
        ("something_new", -0.5, "something_new is -0.50"),
    ],
)
def test_a_feature_in_words(name: str, value: float, phrase: str) -> None:
    assert vocabulary()[name].phrase(value) == phrase


def test_phrases_undo_what_the_board_takes_off_in_an_irregular_rhythm() -> None:
    local, early = vocabulary()["rr_pre_local"], vocabulary()["early"]
    assert local.phrase(-0.15, irregular=0.5) == "came 30 % early by the last eight intervals"
    assert early.phrase(0.4, irregular=0.25) == "early by the last minutes in a regular rhythm (20 % beyond 8 %)"
    assert local.phrase(0.0, irregular=0.9) == "the rhythm is too irregular to call it early or late"
    assert early.phrase(0.0, irregular=0.5) == "the rhythm is too irregular for a beat to be early"


@pytest.fixture
def network() -> Network:
    """Early and wide speaks for V, early and narrow for S."""
    weights = np.zeros((4, len(NAMES) + 1))
    weights[1, NAMES.index("premature")] = 2
    weights[2, NAMES.index("premature")] = 2
    weights[2, NAMES.index("width_ratio")] = 3
    weights[2, NAMES.index("early_like")] = -1
    weights[:, -1] = [2, 0, 0, -9]
    return Network(weights)


@pytest.fixture
def background(rng: np.random.Generator) -> Background:
    rows = rng.normal(size=(60, len(NAMES))) / 4
    return Background.of(rows, rows, [f"p{k % 6}" for k in range(60)])


def explain(network: Network, background: Background, of: np.ndarray, rival: str | None = None):
    return explain_beat(network, of, background, names=NAMES, classes=CLASSES, words=vocabulary(), rival=rival)


def test_reasons_are_the_contributions_strongest_first_and_sum_to_the_lead(
    network: Network, background: Background
) -> None:
    why = explain(network, background, row(premature=1.5, width_ratio=1.2, early_like=0.5))
    assert (why.answer, why.rival) == ("V", "N")
    assert [reason.feature for reason in why.strongest(speaking_for=True)] == ["width_ratio", "premature"]
    assert [reason.feature for reason in why.strongest(speaking_for=False)] == ["early_like"]
    assert why.reasons[0].phrase == "QRS 60 % wider than this patient's usual"
    assert why.start + sum(reason.contribution for reason in why.reasons) == pytest.approx(why.lead)
    assert sum(why.parts.values()) == pytest.approx(why.lead - why.start)
    assert why.lead == pytest.approx(2 * 1.5 + 3 * 1.2 - 0.5 - 2)


def test_a_feature_of_two_parts_counts_by_half_for_each(network: Network) -> None:
    zeros = Background.of(np.zeros((2, len(NAMES))), np.zeros((2, len(NAMES))), "ab")
    why = explain(network, zeros, row(width_ratio=2, early_like=1))
    assert (why.parts["QRS"], why.parts["RR"]) == (pytest.approx(6 - 0.5), pytest.approx(-0.5))


def test_why_not_another_class(network: Network, background: Background) -> None:
    why = explain(network, background, row(premature=1.5, width_ratio=1.2), rival="S")
    assert why.rival == "S"
    assert [reason.feature for reason in why.strongest(speaking_for=True)] == ["width_ratio"]
    for rival in ("V", "X"):
        with pytest.raises(ValueError, match="cannot be compared"):
            explain(network, background, row(premature=1.5, width_ratio=1.2), rival=rival)


def test_a_usual_beat_is_compared_with_the_next_likeliest_class(network: Network, background: Background) -> None:
    why = explain(network, background, row(width_ratio=0.2))
    assert (why.answer, why.rival) == ("N", "V")


def test_a_beat_like_none_before_is_called_so(network: Network, background: Background) -> None:
    assert not explain(network, background, background.rows[0] + 0.01).unlike
    far = explain(network, background, row(amplitude=3.9))
    assert far.unlike
    assert [reason.feature for reason in far.beyond] == ["amplitude"]


def test_with_one_person_nobody_knows_how_much_people_differ(rng: np.random.Generator) -> None:
    rows = rng.normal(size=(9, 3))
    assert Background.of(rows, rows, ["a"] * 9).limit == np.inf
    with pytest.raises(ValueError, match="needs beats"):
        Background.of(rows[:0], rows[:0], [])


def test_a_hidden_layer_is_explained_over_spaced_rows_of_the_background(rng: np.random.Generator) -> None:
    layered = Network(rng.normal(size=(4, 4)), rng.normal(size=(3, 6)))
    rows = rng.normal(size=(100, 5))
    background = Background.of(rows, rows, "ab" * 50)
    values, base = attributions(layered, rows[3], background)
    assert values.sum(axis=1) + base == pytest.approx(layered.logits(rows[3:4])[0])
    assert all_attributions(layered, rows[3:4], background)[0] == pytest.approx(values)
