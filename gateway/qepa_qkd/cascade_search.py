"""Bob's side of a partition: which segments are odd, which bits that proves wrong, what to ask next.

A segment is odd when Alice's parity of it differs from Bob's. A bit that is proven wrong is changed in all passes at
once; segments that turn odd by it hide another error and are queued, where known sub-blocks make them cheap: the
cascade.
"""

from typing import Final, NamedTuple

import numpy as np

from qepa_jit.kernels import kernel
from qepa_qkd.cascade_partition import (
    COUNT,
    EVIDENCE,
    LIVE,
    PASS,
    PASSES_OPEN,
    SINGLE,
    START,
    WAVE,
    WAVE_NOW,
    Array,
    Partition,
)
from qepa_qkd.workspace import Workspace

_TAKEN: Final = 2
"""Mark of a segment that leaves the queue."""
_SORTING: Final = 100
"""Segments that are looked through in the time it takes to sort one."""


class Doubt(NamedTuple):
    """What only Bob knows about the segments of a partition."""

    odd: Array
    """uint8, (capacity,): whether the segment's parity is wrong."""
    queued: Array
    """uint8, (capacity,): whether the segment stands in the queue."""
    eights: Array
    """uint64: `queued`, eight segments at a time."""
    queue: Array
    """int32, (capacity,): odd segments to ask about."""
    waiting: Array
    """int64, (passes + 1,): how many stand in the queue, by pass and altogether."""
    bits: Array
    """uint8, (n,): Bob's bits as they are now."""
    changed: Array
    """uint8, (n,): bits that were changed."""
    stack: Array
    """int32, (2 capacity + passes n,): segments to look at."""

    @classmethod
    def of(cls, bits: Array, passes: int, capacity: int, memory: Workspace) -> "Doubt":
        """No doubt yet about `bits`, which are copied."""
        current = memory.array("current", len(bits), np.uint8)
        current[:] = bits
        changed = memory.array("changed", len(bits), np.uint8)
        changed[:] = 0
        queued = memory.array("queued", -(-capacity // 8) * 8, np.uint8)
        return cls(
            odd=memory.array("odd", capacity, np.uint8),
            queued=queued,
            eights=queued.view(np.uint64),
            queue=memory.array("queue", capacity, np.int32),
            waiting=np.zeros(passes + 1, np.int64),
            bits=current,
            changed=changed,
            stack=memory.array("stack", 2 * capacity + passes * len(bits), np.int32),
        )


@kernel
def settle(state: Partition, doubt: Doubt, top: int, i: int) -> bool:  # noqa: PLR0912 (one loop, compiled as one)
    """Change bit `i` (-1: none) and every bit that the `top` segments on the stack prove wrong, queue what stays odd.

    False when Alice's parities contradict each other. With true parities a bit is changed only if it is wrong, so none
    is changed twice.
    """
    segments, order, where, owner, placed = state.segments, state.order, state.where, state.owner, state.bits
    n, wave, passes = len(state.level), state.now[WAVE_NOW], state.now[PASSES_OPEN]
    odd, queued, queue, waiting = doubt.odd, doubt.queued, doubt.queue, doubt.waiting
    bits, changed, stack = doubt.bits, doubt.changed, doubt.stack
    looked, j = top, 0
    while True:
        if i >= 0:
            if changed[i]:
                return False
            changed[i] = 1
            bits[i] ^= 1
            for p in range(passes):
                place = where[p * n + i]
                if place >= 0:
                    s = owner[place]
                    placed[place] ^= 1
                    odd[s] ^= 1
                    if odd[s]:
                        stack[top] = s
                        top += 1
            i = -1
        if j < looked:
            # In the order in which bits became certain: each proof rests on the certain bits before it.
            s = stack[j]
            j += 1
            if odd[s] and segments[s, EVIDENCE] == SINGLE:
                i = order[segments[s, START]]
            continue
        if top == 0:
            return True
        top -= 1
        s = stack[top]
        if not odd[s] or queued[s]:
            continue
        if segments[s, EVIDENCE] == SINGLE:
            return False
        if segments[s, WAVE] == wave and segments[s, LIVE] < 2:
            if segments[s, LIVE] == 0:
                return False
            i = order[segments[s, START]]
        else:
            queued[s] = 1
            queue[waiting[-1]] = s
            waiting[-1] += 1
            waiting[segments[s, PASS]] += 1


@kernel
def compare(state: Partition, doubt: Doubt, asked: Array, told: Array, mine: Array) -> bool:
    """Take Alice's parities of the divisions of `asked`, made last, beside Bob's; settle what follows.

    False as in `settle`. What was asked about and not divided has one uncertain bit at most, and is settled as well.
    """
    made, odd, queued, stack = state.made, doubt.odd, doubt.queued, doubt.stack
    for k in range(len(told)):
        s, new = made[2 * k], made[2 * k + 1]
        left = told[k] ^ mine[k]
        odd[new], odd[s] = odd[s] ^ left, left
        queued[new] = 0
        stack[2 * k], stack[2 * k + 1] = s, new
    top = 2 * len(told)
    for s in asked:
        stack[top] = s
        top += 1
    return settle(state, doubt, top, -1)


def take_queue(state: Partition, doubt: Doubt, only: int) -> Array:
    """Take segments out of the queue, of pass `only` or of all (-1); return them, rising, without what is even."""
    # Called for every question: what a kernel does not need costs more to pass than the work it does.
    count = int(state.now[COUNT])
    return _take_queue(state.segments, doubt.odd, doubt.queued, doubt.eights, doubt.queue, doubt.waiting, count, only)


@kernel
def _take_queue(
    segments: Array, odd: Array, queued: Array, eights: Array, queue: Array, waiting: Array, count: int, only: int
) -> Array:
    total, kept, taken = waiting[-1], 0, 0
    out = np.empty(total, np.int32)
    for j in range(total):
        s = queue[j]
        if only >= 0 and segments[s, PASS] != only:
            queue[kept] = s
            kept += 1
            continue
        queued[s] = _TAKEN if odd[s] else 0
        if odd[s]:
            out[taken] = s
            taken += 1
    if only >= 0:
        waiting[only] = 0
        waiting[-1] = kept
    else:
        waiting[:] = 0
    out = out[:taken]
    # Many are faster found in order than sorted.
    if taken * _SORTING > count:
        place = 0
        for eight in range((count + 7) // 8):
            if eights[eight]:
                for s in range(8 * eight, min(8 * eight + 8, count)):
                    if queued[s] == _TAKEN:
                        out[place] = s
                        place += 1
    else:
        out.sort()
    for s in out:
        queued[s] = 0
    return out


@kernel
def note_blocks(doubt: Doubt, first: int, told: Array, mine: Array, total: int) -> int:
    """Compare the parities of the blocks from segment `first` on; return the height of the stack.

    Of later passes Alice does not tell the last block: `total` is whether her parity of all bits of the pass differs,
    known from the first pass because the bits left out are right.
    """
    top = 0
    rest = np.uint8(total)
    for j in range(len(mine)):
        odd = told[j] ^ mine[j] if j < len(told) else rest
        rest ^= odd
        doubt.odd[first + j], doubt.queued[first + j] = odd, 0
        if odd:
            doubt.stack[top] = first + j
            top += 1
    return top
