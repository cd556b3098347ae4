"""Bob's side of a partition: which segments are odd, which bits that proves wrong, what to ask next.

A segment is odd when Alice's parity of it differs from Bob's. A bit that is proven wrong is changed in all passes at
once; segments that turn odd by it hide another error and are queued, where known sub-blocks make them cheap: the
cascade.
"""

from typing import NamedTuple

import numpy as np

from qepa_qkd.cascade_partition import EVIDENCE, LIVE, PASS, SINGLE, START, WAVE, Array, Partition
from qepa_qkd.compiled import kernel


class Doubt(NamedTuple):
    """What only Bob knows about the segments of a partition."""

    odd: Array
    """uint8, (capacity,): whether the segment's parity is wrong."""
    queued: Array
    """uint8, (capacity,): whether the segment stands in the queue."""
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
    def of(cls, bits: Array, passes: int, capacity: int) -> "Doubt":
        """No doubt yet about `bits`, which are copied."""
        return cls(
            odd=np.zeros(capacity, np.uint8),
            queued=np.zeros(capacity, np.uint8),
            queue=np.empty(capacity, np.int32),
            waiting=np.zeros(passes + 1, np.int64),
            bits=bits.copy(),
            changed=np.zeros(len(bits), np.uint8),
            stack=np.empty(2 * capacity + passes * len(bits), np.int32),
        )


@kernel
def _change(state: Partition, doubt: Doubt, i: int, top: int) -> int:
    """Change bit `i`, push the segments that turn odd, return the new height of the stack (-1: changed before)."""
    if doubt.changed[i]:
        return -1
    doubt.changed[i] = 1
    doubt.bits[i] ^= 1
    n = len(state.level)
    for p in range(state.now[3]):
        place = state.where[p * n + i]
        if place >= 0:
            s = state.owner[place]
            state.bits[place] ^= 1
            doubt.odd[s] ^= 1
            if doubt.odd[s]:
                doubt.stack[top] = s
                top += 1
    return top


@kernel
def settle(state: Partition, doubt: Doubt, top: int) -> bool:
    """Change every bit that the `top` segments on the stack prove wrong, queue what stays odd.

    False when Alice's parities contradict each other. With true parities a bit is changed only if it is wrong, so none
    is changed twice.
    """
    segments, stack = state.segments, doubt.stack
    # In the order in which bits became certain: each proof rests on the certain bits before it.
    looked = top
    for j in range(looked):
        s = stack[j]
        if doubt.odd[s] and segments[s, EVIDENCE] == SINGLE:
            top = _change(state, doubt, state.order[segments[s, START]], top)
            if top < 0:
                return False
    while top > 0:
        top -= 1
        s = stack[top]
        if not doubt.odd[s] or doubt.queued[s]:
            continue
        if segments[s, EVIDENCE] == SINGLE:
            return False
        if segments[s, WAVE] == state.now[0] and segments[s, LIVE] < 2:
            if segments[s, LIVE] == 0:
                return False
            top = _change(state, doubt, state.order[segments[s, START]], top)
            if top < 0:
                return False
        else:
            doubt.queued[s] = 1
            doubt.queue[doubt.waiting[-1]] = s
            doubt.waiting[-1] += 1
            doubt.waiting[segments[s, PASS]] += 1
    return True


@kernel
def change_bit(state: Partition, doubt: Doubt, i: int) -> bool:
    """Change bit `i`, found wrong by other means, and settle what follows. False on a contradiction."""
    top = _change(state, doubt, i, 0)
    return top >= 0 and settle(state, doubt, top)


@kernel
def take_queue(state: Partition, doubt: Doubt, only: int) -> Array:
    """Take segments out of the queue, of pass `only` or of all (-1); return them, rising, without what is even."""
    total, kept, taken = doubt.waiting[-1], 0, 0
    out = np.empty(total, np.int32)
    for j in range(total):
        s = doubt.queue[j]
        if only >= 0 and state.segments[s, PASS] != only:
            doubt.queue[kept] = s
            kept += 1
            continue
        doubt.queued[s] = 0
        if doubt.odd[s]:
            out[taken] = s
            taken += 1
    if only >= 0:
        doubt.waiting[only] = 0
        doubt.waiting[-1] = kept
    else:
        doubt.waiting[:] = 0
    out = out[:taken]
    out.sort()
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
        doubt.odd[first + j] = odd
        if odd:
            doubt.stack[top] = first + j
            top += 1
    return top
