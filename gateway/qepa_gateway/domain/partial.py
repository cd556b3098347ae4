"""A gateway's part of a cell's sum: stripped vectors added, pair masks on. The same input gives the same bytes."""

from collections.abc import Mapping, Sequence

from qepa_uplink.lighthe import SealedVector, add_sealed, mask
from qepa_wire.keys import PAIR_MASK, derive


def strip_link_mask(sealed: bytes, mask_key: bytes, *, stream: int, round_: int) -> bytes:
    """Take F(Klink) off a vector of 4 n + 16 bytes; ``mask_key`` is HMAC(link, "qepa/1/link/mask")."""
    vector = SealedVector.from_bytes(sealed)
    return (vector - mask(mask_key, stream=stream, round_=round_, n_words=len(vector.words))).to_bytes()


def strip_pad(sealed: bytes, pad: bytes) -> bytes:
    """Take the one-time bytes ``pad`` (4 n + 16) off a vector of suite otp."""
    return (SealedVector.from_bytes(sealed) - SealedVector.from_bytes(pad)).to_bytes()


def partial_sum(
    stripped: Sequence[bytes],
    pair_keys: Mapping[str, bytes],
    *,
    gateway: str,
    cell: int,
    stream: int,
    round_: int,
    n_words: int,
) -> bytes:
    """Return P_g = sum of (c_i - F(Klink_i)) + sum over peers h of +-F(Kpair_gh), + where g < h.

    ``pair_keys`` holds the raw pair key of each other gateway of the cell. 4 n + 16 bytes.
    """
    total = add_sealed(stripped, n_words)
    for peer in sorted(pair_keys):
        key = derive(pair_keys[peer], PAIR_MASK)
        pad = mask(key, stream=stream, round_=round_, n_words=n_words, cell=cell)
        total = total + pad if gateway < peer else total - pad
    return total.to_bytes()
