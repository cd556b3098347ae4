"""Low-density parity-check codes of any length and rate, made by a seed, and their decoder.

R. Gallager, "Low-density parity-check codes" (1962); irregular after T. Richardson, A. Shokrollahi, R. Urbanke (2001):
degrees 2, 3 and 15 in shares that were tried out, not optimised. Variables of degree 2 form a path through the checks,
so that they close no cycle by themselves; other edges go one by one to the emptiest of a few random checks, where they
close no cycle of length 4 if there is such a one.

More parities than checks are had by taking checks apart: told the parity of one half, both halves are checks (the
reverse of the accumulation of D. Varodayan, A. Aaron, B. Girod, "Rate-adaptive codes for distributed source coding",
Signal Processing 86 (2006)).
"""

from functools import lru_cache
from math import log2
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from qepa_jit.kernels import kernel

Bits = npt.NDArray[np.uint8]
Array = npt.NDArray[Any]

_HIGH_DEGREE: Final = 15
_DENSE: Final = 0.3
"""Checks per variable from which a code takes the second of two mixtures of degrees."""
_HIGH_SHARES: Final = (0.6, 0.5)
"""Share of edges that end in variables of the high degree."""
_TWOS_PER_CHECK: Final = (0.5, 0.9)
_CANDIDATES: Final = 6
_MOST_ROUNDS: Final = 80


class Graph(NamedTuple):
    """Checks as lists of variables: those of check c are variables[ends[c] : ends[c + 1]]."""

    ends: Array
    """int32, (checks + 1,)."""
    variables: Array
    """int32, (edges,)."""


def binary_entropy(p: float) -> float:
    """h(p) in bits."""
    return 0.0 if p <= 0 or p >= 1 else -p * log2(p) - (1 - p) * log2(1 - p)


def degrees(length: int, checks: int) -> Array:
    """Degree of each variable, rising: 2, 3 and a high one."""
    mixture = int(checks > _DENSE * length)
    twos = min(length // 2, round(_TWOS_PER_CHECK[mixture] * checks))
    rest, share = length - twos, _HIGH_SHARES[mixture]
    highs = round(share * (2 * twos + 3 * rest) / (_HIGH_DEGREE * (1 - share) + 3 * share))
    out = np.full(length, 3, np.int32)
    out[:twos] = 2
    out[length - min(rest, highs) :] = _HIGH_DEGREE
    return out


@lru_cache(maxsize=8)
def make_code(length: int, checks: int) -> Graph:
    """Return the code of `length` variables and `checks` checks; the same on every machine."""
    return Graph(*_lay_edges(degrees(length, checks), checks, np.uint64(length * 1_000_003 + checks)))


@kernel
def _lay_edges(degree: Array, checks: int, seed: Any) -> tuple[Array, Array]:  # noqa: PLR0912 (one loop, compiled as one)
    n = len(degree)
    edges = 0
    for d in degree:
        edges += d
    of_variable = np.full((n, degree.max()), -1, np.int32)
    room = 2 * (edges // checks + 2)
    of_check = np.full((checks, room), -1, np.int32)
    filled = np.zeros(checks, np.int32)
    seen = np.full(n, -1, np.int32)
    state = seed * np.uint64(2) + np.uint64(1)
    for v in range(n):
        for e in range(degree[v]):
            # Variables two steps away: sharing another check with one of them would close a cycle of length 4.
            for earlier in range(e):
                c = of_variable[v, earlier]
                for j in range(filled[c]):
                    seen[of_check[c, j]] = v
            best: Any = -1
            best_cost: Any = 1 << 30
            if degree[v] == 2:
                # A path through the checks: variables of degree 2 alone close no cycle.
                best, best_cost = v + e, 0
            for _ in range(_CANDIDATES if degree[v] > 2 else 0):
                state ^= state << np.uint64(13)
                state ^= state >> np.uint64(7)
                state ^= state << np.uint64(17)
                picked: Any = np.int64((state >> np.uint64(11)) % np.uint64(checks))
                cost = filled[picked]
                if cost >= room:
                    continue
                for j in range(filled[picked]):
                    if of_check[picked, j] == v:
                        cost += 1 << 20
                    elif seen[of_check[picked, j]] == v:
                        cost += 1 << 8
                if cost < best_cost:
                    best, best_cost = picked, cost
            if best < 0 or best_cost >= 1 << 20:
                continue
            of_variable[v, e] = best
            of_check[best, filled[best]] = v
            filled[best] += 1
    ends = np.zeros(checks + 1, np.int32)
    for c in range(checks):
        ends[c + 1] = ends[c] + filled[c]
    variables = np.empty(ends[-1], np.int32)
    for c in range(checks):
        variables[ends[c] : ends[c + 1]] = of_check[c, : filled[c]]
    return ends, variables


@kernel
def syndrome(ends: Array, variables: Array, bits: Array) -> Array:
    """Parity of each check."""
    out = np.zeros(len(ends) - 1, np.uint8)
    for c in range(len(out)):
        for e in range(ends[c], ends[c + 1]):
            out[c] ^= bits[variables[e]]
    return out


@kernel
def take_apart(ends: Array, variables: Array, count: int) -> tuple[Array, Array]:
    """The graph in which each of the first `count` checks is two, one after the other.

    Variables go to them in turn: they stand by degree, and a check of high degrees alone would close many short cycles.
    """
    checks = len(ends) - 1
    new_ends = np.zeros(checks + count + 1, np.int32)
    new_variables = variables.copy()
    row = 0
    for c in range(checks):
        if c < count:
            place = ends[c]
            for first in (0, 1):
                for e in range(ends[c] + first, ends[c + 1], 2):
                    new_variables[place] = variables[e]
                    place += 1
                row += 1
                new_ends[row] = place
        else:
            row += 1
            new_ends[row] = ends[c + 1]
    return new_ends, new_variables


@kernel
def decode(ends: Array, variables: Array, wanted: Array, prior: Array, out: Array) -> int:
    """Find the error pattern of syndrome `wanted` by belief propagation, check after check (layered sum-product).

    `prior` (float32) are log-likelihood ratios of the bits being right. The pattern goes to `out`; return the rounds it
    took, or -1 when they did not suffice.
    """
    n, checks = len(prior), len(ends) - 1
    belief = prior.copy()
    message = np.zeros(len(variables), np.float32)
    width = 1
    for c in range(checks):
        width = max(width, ends[c + 1] - ends[c])
    ahead = np.empty(width + 1, np.float32)
    own = np.empty(width, np.float32)
    for turn in range(_MOST_ROUNDS):
        for c in range(checks):
            first, size = ends[c], ends[c + 1] - ends[c]
            ahead[0] = np.float32(-1.0) if wanted[c] else np.float32(1.0)
            for k in range(size):
                x = belief[variables[first + k]] - message[first + k]
                x = min(max(x, np.float32(-30.0)), np.float32(30.0))
                belief[variables[first + k]] = x
                t = np.exp(-abs(x))
                t = (np.float32(1.0) - t) / (np.float32(1.0) + t)
                own[k] = t if x >= 0 else -t
                ahead[k + 1] = ahead[k] * own[k]
            behind = np.float32(1.0)
            for k in range(size - 1, -1, -1):
                t = ahead[k] * behind
                behind *= own[k]
                t = min(max(t, np.float32(-0.9999999)), np.float32(0.9999999))
                m = np.log((np.float32(1.0) + t) / (np.float32(1.0) - t))
                message[first + k] = m
                belief[variables[first + k]] += m
        for v in range(n):
            out[v] = 1 if belief[v] < 0 else 0
        right = True
        for c in range(checks):
            x = wanted[c]
            for e in range(ends[c], ends[c + 1]):
                x ^= out[variables[e]]
            if x:
                right = False
                break
        if right:
            return turn + 1
    return -1
