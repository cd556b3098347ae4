"""A gateway that lies about its cell, against the server's true code: sealed vectors in, ``open_cell``'s verdict out.

Two gateways share a cell under a pair mask. Each lie is told in many rounds with fresh keys; a lie that opens would be
a failure of verifiable aggregation.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from qepa_server.errors import UnmaskError
from qepa_server.robust.failures import Outcome, blame
from qepa_server.unmask.opening import Contributor, Limits, open_cell
from qepa_uplink.lighthe import SealedVector, add_all, mask
from qepa_uplink.messages import Partial
from qepa_wire.keys import END_MASK, PAIR_MASK, derive
from qepa_wire.lighthe import seal

_WORDS, _Q_MAX, _STREAM = 72, 1024, 2
_BOARDS = 6  # of each gateway
LIAR, HONEST = "gw-a", "gw-b"


@dataclass(frozen=True, slots=True)
class LieResult:
    """How often a lie was told, how often the sum opened, and why it did not."""

    lie: str
    rounds: int
    opened: int
    reasons: dict[str, int]
    blamed_in_round: int | None


@dataclass(frozen=True, slots=True)
class _Claim:
    vectors: dict[int, SealedVector]  # of the liar's boards, link masks off
    contributors: tuple[int, ...]
    extra: SealedVector | None = None


@dataclass(slots=True)
class _Scene:
    rng: np.random.Generator
    keys: dict[int, bytes]
    check_key: bytes
    pair_key: bytes
    before: dict[int, SealedVector]


def _sealed(scene: _Scene, boards: range, round_: int) -> dict[int, SealedVector]:
    made = {}
    for board in boards:
        values = scene.rng.integers(-200, 201, _WORDS).tolist()
        end = derive(scene.keys[board], END_MASK)
        made[board] = SealedVector.from_bytes(seal(values, [end], scene.check_key, _STREAM, round_))
    return made


def _truth(claim: _Claim, _scene: _Scene) -> _Claim:
    return claim


def _omit(claim: _Claim, _scene: _Scene) -> _Claim:
    left_out = claim.contributors[0]
    return replace(claim, vectors={b: v for b, v in claim.vectors.items() if b != left_out})


def _omit_unlisted(claim: _Claim, _scene: _Scene) -> _Claim:
    return replace(claim, contributors=claim.contributors[1:])


def _add(claim: _Claim, scene: _Scene) -> _Claim:
    words = scene.rng.integers(0, 50, _WORDS).astype(np.uint32)
    return replace(claim, extra=SealedVector(words, np.zeros(2, np.uint64)))


def _add_stranger(claim: _Claim, _scene: _Scene) -> _Claim:
    return replace(claim, contributors=(*claim.contributors, 999))


def _count_twice(claim: _Claim, _scene: _Scene) -> _Claim:
    return replace(claim, extra=claim.vectors[claim.contributors[0]])


def _replay(claim: _Claim, scene: _Scene) -> _Claim:
    board = claim.contributors[0]
    return replace(claim, vectors={**claim.vectors, board: scene.before[board]})


def _alter(claim: _Claim, _scene: _Scene) -> _Claim:
    words = np.zeros(_WORDS, np.uint32)
    words[3] = 1
    return replace(claim, extra=SealedVector(words, np.zeros(2, np.uint64)))


def _alter_with_guess(claim: _Claim, scene: _Scene) -> _Claim:
    words = np.zeros(_WORDS, np.uint32)
    words[3] = 1
    checks = np.frombuffer(scene.rng.bytes(16), np.uint64)
    return replace(claim, extra=SealedVector(words, checks))


LIES: dict[str, Callable[[_Claim, _Scene], _Claim]] = {
    "none": _truth,
    "omits a board it lists": _omit,
    "adds a board it does not list": _omit_unlisted,
    "adds a vector of its own": _add,
    "lists a board that is not there": _add_stranger,
    "counts a board twice": _count_twice,
    "replays a board's last round": _replay,
    "alters a word": _alter,
    "alters a word and guesses checks": _alter_with_guess,
}


def lying_gateway(rounds: int, seed: int, advanced: Callable[[int], None] = lambda _rounds: None) -> list[LieResult]:
    """Tell every lie in ``rounds`` rounds; ``advanced(1)`` is called after each lie."""
    results = []
    for lie in LIES:
        results.append(_tell(lie, rounds, seed))
        advanced(1)
    return results


def _tell(lie: str, rounds: int, seed: int) -> LieResult:
    rng = np.random.default_rng(seed)
    keys = {board: rng.bytes(32) for board in range(1, 2 * _BOARDS + 1)}
    scene = _Scene(rng, keys, rng.bytes(32), rng.bytes(32), {})
    own, others = range(1, _BOARDS + 1), range(_BOARDS + 1, 2 * _BOARDS + 1)
    scene.before = _sealed(scene, own, 1)
    records = {b: Contributor(f"p-{b}", LIAR if b in own else HONEST, derive(keys[b], END_MASK)) for b in keys}
    reasons: Counter[str] = Counter()
    outcomes: list[Outcome] = []
    blamed = None
    for round_ in range(2, rounds + 2):
        fresh = _sealed(scene, own, round_)
        claim = LIES[lie](_Claim(fresh, tuple(own)), scene)
        partials = [
            _partial(LIAR, claim, scene, round_),
            _partial(HONEST, _Claim(_sealed(scene, others, round_), tuple(others)), scene, round_),
        ]
        scene.before = fresh
        reason = _verdict(partials, records, scene.check_key, round_)
        reasons[reason] += 1
        outcomes += _beside(round_, bool(reason))
        if blamed is None and any(party.name == LIAR for party in blame(outcomes, alpha=1e-5)):
            blamed = round_ - 1
    opened = reasons.pop("", 0)
    return LieResult(lie, rounds, opened, dict(reasons), blamed)


def _partial(gateway: str, claim: _Claim, scene: _Scene, round_: int) -> Partial:
    total = add_all([*claim.vectors.values(), *([] if claim.extra is None else [claim.extra])], _WORDS)
    pad = mask(derive(scene.pair_key, PAIR_MASK), stream=_STREAM, round_=round_, n_words=_WORDS, cell=1)
    total = total + pad if gateway == LIAR else total - pad
    return Partial(
        id=f"p-{round_}",
        round=round_,
        cell=1,
        stream=_STREAM,
        gateway=gateway,
        contributors=claim.contributors,
        patients=len(claim.contributors),
        n_words=_WORDS,
        sealed=total.to_bytes(),
        last_frame_ms=0,
    )


def _verdict(partials: list[Partial], records: dict[int, Contributor], check_key: bytes, round_: int) -> str:
    limits = Limits(_WORDS, _Q_MAX, 4096, 5)
    try:
        open_cell(partials, [LIAR, HONEST], records, check_key, limits, round_=round_, stream=_STREAM)
    except UnmaskError as error:
        return error.reason
    return ""


def _beside(round_: int, failed: bool) -> list[Outcome]:
    """Return the liar's cell as one of eight of a round, its partner drawn anew; the other cells opened."""
    partners = [f"gw-{i}" for i in range(15)]
    order = [partners[(i * 7 + round_ * 4) % 15] for i in range(15)]
    cells = [(LIAR, order[0]), *((order[i], order[i + 1]) for i in range(1, 15, 2))]
    return [Outcome(round_, pair, (), failed and i == 0) for i, pair in enumerate(cells)]
