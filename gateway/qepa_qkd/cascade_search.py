"""Bob's side of a partition: which segments are odd, which bits that proves wrong, what to ask next.

A segment is odd when Alice's parity of it differs from Bob's. A bit that is proven wrong is changed in all passes at
once; segments that turn odd by it hide another error and are queued, where known sub-blocks make them cheap: the
cascade.
"""

from typing import NamedTuple

import numpy as np

from qepa_qkd.cascade_partition import SINGLE, Array, Partition
from qepa_qkd.compiled import kernel


class Doubt(NamedTuple):
    """What only Bob knows about the segments of a partition."""

    odd: Array
    """uint8, (passes, n): whether the segment's parity is wrong."""
    queued: Array
    """uint8, (passes, n): whether the segment stands in the queue."""
    queue: Array
    """int32, (passes, n): odd segments to ask about, by pass."""
    waiting: Array
    """int64, (passes,): how many stand in the queue of each pass."""
    bits: Array
    """uint8, (n,): Bob's bits as they are now."""
    changed: Array
    """uint8, (n,): bits that were changed."""
    stack: Array
    """int32, (capacity, 2): passes and segments to look at."""

    @classmethod
    def of(cls, bits: Array, passes: int) -> "Doubt":
        """No doubt yet about `bits`, which are copied."""
        shape = (passes, len(bits))
        return cls(
            np.zeros(shape, np.uint8),
            np.zeros(shape, np.uint8),
            np.empty(shape, np.int32),
            np.zeros(passes, np.int64),
            bits.copy(),
            np.zeros(len(bits), np.uint8),
            np.empty((2 * passes * len(bits) + 64, 2), np.int32),
        )


@kernel
def _change(state: Partition, doubt: Doubt, opened: int, i: int, top: int) -> int:
    """Change bit `i`, push the segments that turn odd, return the new height of the stack (-1: changed before)."""
    if doubt.changed[i]:
        return -1
    doubt.changed[i] = 1
    doubt.bits[i] ^= 1
    for q in range(opened):
        position = state.where[q, i]
        if position >= 0:
            s = state.segment[q, position]
            state.bits[q, position] ^= 1
            doubt.odd[q, s] ^= 1
            if doubt.odd[q, s]:
                doubt.stack[top, 0], doubt.stack[top, 1] = q, s
                top += 1
    return top


@kernel
def settle(state: Partition, doubt: Doubt, opened: int, top: int) -> bool:
    """Change every bit that the `top` segments on the stack prove wrong, queue what stays odd.

    False when Alice's parities contradict each other. With true parities a bit is changed only if it is wrong, so none
    is changed twice.
    """
    # In the order in which bits became certain: each proof rests on the certain bits before it.
    looked = top
    for j in range(looked):
        p, s = doubt.stack[j, 0], doubt.stack[j, 1]
        if doubt.odd[p, s] and state.evidence[p, s] == SINGLE:
            top = _change(state, doubt, opened, state.order[p, state.start[p, s]], top)
            if top < 0:
                return False
    while top > 0:
        top -= 1
        p, s = doubt.stack[top, 0], doubt.stack[top, 1]
        if not doubt.odd[p, s] or doubt.queued[p, s]:
            continue
        if state.evidence[p, s] == SINGLE:
            return False
        if state.wave[p, s] == state.now[0] and state.live[p, s] < 2:
            if state.live[p, s] == 0:
                return False
            top = _change(state, doubt, opened, state.order[p, state.start[p, s]], top)
            if top < 0:
                return False
        else:
            doubt.queued[p, s] = 1
            doubt.queue[p, doubt.waiting[p]] = s
            doubt.waiting[p] += 1
    return True


@kernel
def change_bit(state: Partition, doubt: Doubt, opened: int, i: int) -> bool:
    """Change bit `i`, found wrong by other means, and settle what follows. False on a contradiction."""
    top = _change(state, doubt, opened, i, 0)
    return top >= 0 and settle(state, doubt, opened, top)


@kernel
def take_queue(doubt: Doubt, first: int, last: int) -> tuple[Array, Array]:
    """Empty the queues of passes [first, last); return passes and segments, rising, without what is even by now."""
    total = 0
    for p in range(first, last):
        total += doubt.waiting[p]
    passes, segments = np.empty(total, np.uint8), np.empty(total, np.int32)
    a = 0
    for p in range(first, last):
        b = a
        for j in range(doubt.waiting[p]):
            s = doubt.queue[p, j]
            doubt.queued[p, s] = 0
            if doubt.odd[p, s]:
                segments[b] = s
                b += 1
        doubt.waiting[p] = 0
        segments[a:b].sort()
        passes[a:b] = p
        a = b
    return passes[:a], segments[:a]


@kernel
def note_blocks(state: Partition, doubt: Doubt, p: int, told: Array, mine: Array) -> int:
    """Compare the block parities of a pass that opens; return the height of the stack.

    Of later passes Alice does not tell the last block: the parity of all bits is known from the first pass, and bits
    that the pass leaves out are right.
    """
    top = 0
    last = np.uint8(0)
    if p:
        for s in range(state.count[0]):
            last ^= doubt.odd[0, s]
    for s in range(state.count[p]):
        odd = told[s] ^ mine[s] if s < len(told) else last
        last ^= odd
        doubt.odd[p, s] = odd
        if odd:
            doubt.stack[top, 0], doubt.stack[top, 1] = p, s
            top += 1
    return top
