"""Opening a sum: exact for honest claims, refused for any other."""

import os

import pytest
from hospital_rig import Board, Rig
from hypothesis import given, settings
from hypothesis import strategies as st

from qepa_server.errors import UnmaskError
from qepa_server.unmask.opening import Contributor, Limits, open_cell
from qepa_uplink.lighthe import SealedVector, add_all, mask
from qepa_uplink.messages import Partial
from qepa_wire.keys import COHORT_CHECK, END_MASK, LINK_MASK, PAIR_MASK, derive
from qepa_wire.lighthe import seal

COHORT = os.urandom(32)
CHECK = derive(COHORT, COHORT_CHECK)
N = 5
LIMITS = Limits(n_words=N, word_max=1000, n_max=100, min_group=5)
END = {b: os.urandom(32) for b in range(1, 25)}
LINK = {b: os.urandom(32) for b in range(1, 25)}
PAIR = {frozenset(p): os.urandom(32) for p in (("a", "b"), ("a", "c"), ("b", "c"))}
ROUND, STREAM = 7, 2


def records(gateway_of, patient_of=lambda b: f"p-{b}"):
    return {b: Contributor(patient_of(b), gateway_of[b], derive(END[b], END_MASK)) for b in gateway_of}


def partial(gateway, cell, values, *, round_=ROUND, stream=STREAM):
    """What a gateway of ``cell`` sends for ``values`` (board: words)."""
    vectors = []
    for board, words in values.items():
        keys = [derive(LINK[board], LINK_MASK), derive(END[board], END_MASK)]
        sealed = SealedVector.from_bytes(seal(words, keys, CHECK, stream, round_))
        vectors.append(sealed - mask(keys[0], stream=stream, round_=round_, n_words=N))
    total = add_all(vectors, N)
    for other in cell:
        if other != gateway:
            key = derive(PAIR[frozenset((gateway, other))], PAIR_MASK)
            pad = mask(key, stream=stream, round_=round_, n_words=N, cell=1)
            total = total + pad if gateway < other else total - pad
    return Partial(
        id="x", round=round_, cell=1, stream=stream, gateway=gateway, contributors=tuple(values),
        patients=len(values), n_words=N, sealed=total.to_bytes(), last_frame_ms=0,
    )  # fmt: skip


def opened(partials, cell, known, limits=LIMITS):
    return open_cell(partials, cell, known, CHECK, limits, round_=ROUND, stream=STREAM)


words = st.lists(st.integers(-1000, 1000), min_size=N, max_size=N)


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.integers(1, 24), st.tuples(st.sampled_from("abc"), words), min_size=5))
def test_the_sum_is_exact_whoever_takes_part(board_values):
    gateway_of = {b: gateway for b, (gateway, _) in board_values.items()}
    values = {b: v for b, (_, v) in board_values.items()}
    partials = [partial(g, "abc", {b: v for b, v in values.items() if gateway_of[b] == g}) for g in "abc"]
    result = opened(partials, "abc", records(gateway_of))
    assert list(result.total) == [sum(column) for column in zip(*values.values(), strict=True)]
    assert set(result.boards) == set(values)


VALUES = {b: [b, -b, 0, 1000, -1000] for b in range(1, 9)}
KNOWN = records(dict.fromkeys(VALUES, "a"))


def test_a_whole_honest_cell_opens():
    assert opened([partial("a", "a", VALUES)], "a", KNOWN).total[3] == 8000


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (Limits(N, 1000, 100, 9), "small"),
        (Limits(N, 1000, 7, 5), "overflow"),
        (Limits(N, 999, 100, 5), "range"),
        (Limits(N + 1, 1000, 100, 5), "length"),
    ],
)
def test_limits_hold(limits, reason):
    with pytest.raises(UnmaskError) as caught:
        opened([partial("a", "a", VALUES)], "a", KNOWN, limits)
    assert caught.value.reason == reason


def test_boards_of_one_patient_are_one_patient():
    same = records(dict.fromkeys(VALUES, "a"), lambda b: f"p-{b // 4}")
    with pytest.raises(UnmaskError, match="3 patients, min_group is 5"):
        opened([partial("a", "a", VALUES)], "a", same)


def test_another_rounds_sum_does_not_open():
    old = partial("a", "a", VALUES, round_=ROUND - 1)
    with pytest.raises(UnmaskError, match="check"):
        opened([old], "a", KNOWN)


def test_boards_enrolled_elsewhere_do_not_count():
    moved = {**KNOWN, 3: Contributor("p-3", "b", KNOWN[3].end_mask_key)}
    with pytest.raises(UnmaskError, match="not enrolled at a"):
        opened([partial("a", "a", VALUES)], "a", moved)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 4 * N + 15), st.integers(1, 255))
def test_any_changed_byte_is_found(where, flip):
    honest = partial("a", "a", VALUES)
    data = bytearray(honest.sealed)
    data[where] ^= flip
    with pytest.raises(UnmaskError, match="check"):
        opened([honest.model_copy(update={"sealed": bytes(data)})], "a", KNOWN)


def test_a_board_in_two_cells_of_a_round_opens_in_one(tmp_path):
    """Or the server could subtract one sum from the other."""
    boards = [Board(i, f"p-{i}") for i in range(1, 25)]
    rig = Rig(tmp_path, {"gw-1": boards}, max_rounds=1)
    gateway = rig.gateways["gw-1"]
    honest, vectors = gateway.partial, {}

    def kept(board, spec, opening, make=Board.vector):
        key = (board.number, spec.stream)
        if key not in vectors:
            vectors[key] = make(board, spec, opening)
        return vectors[key]

    for board in boards:
        board.vector = lambda *a, board=board: kept(board, *a)
    first: list[Board] = []

    def greedy(opening, cell, spec, members):
        if cell.id == 1:
            first[:] = members
        return honest(opening, cell, spec, members if cell.id == 1 else [*members, first[0]])

    gateway.partial = greedy
    rig.connect()
    rig.pass_time(3)
    verdicts = {(r.cell, r.stream): r for r in rig.hospital.ledger.sums(1)}
    assert verdicts[(1, 1)].state == verdicts[(1, 2)].state == "summed"
    assert verdicts[(2, 1)].reason.startswith("repeated")
    assert verdicts[(2, 2)].reason.startswith("repeated")
