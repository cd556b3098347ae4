"""Whether an audit log is whole: its chain, its signatures, and heads that were noted elsewhere. Pure, for offline."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from qepa_uplink.audit import GENESIS, SEAL_CONTEXT, Head
from qepa_uplink.errors import UplinkError
from qepa_uplink.identity import Certificate, verify_certificate

from ..errors import AuditError
from .chain import entry_hash
from .seals import signer_of, verify_head


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry as it is stored; ``detail`` is the JSON text that was hashed."""

    seq: int
    at_ms: int
    event: str
    detail: str
    hash: bytes


@dataclass(frozen=True, slots=True)
class Seal:
    """A signature over the entry ``seq`` and all before, by the certificate ``signer``."""

    seq: int
    signer: str
    signature: bytes


@dataclass(frozen=True, slots=True)
class Report:
    """What was found whole: entries, how far they are signed (0 where signatures were not asked for), the head."""

    entries: int
    signatures: int
    signed_until: int
    head: Head


def verify_log(
    entries: Iterable[Entry],
    seals: Sequence[Seal],
    certificates: Mapping[str, Certificate],
    *,
    root_key: bytes | None,
    noted: Sequence[Head] = (),
) -> Report:
    """Return a report of a log that holds; raise AuditError with a sentence on the first thing that does not.

    ``root_key``: the offline root that certified the server; None checks no signature. ``noted``: earlier heads that
    somebody kept, against a log that was cut off or rewritten as a whole by who has the signing key.
    """
    keys = {} if root_key is None else _keys(seals, certificates)
    at = {seal.seq: seal for seal in seals}
    expected = {head.seq: head.hash for head in noted}
    if len(expected) < len({(head.seq, head.hash) for head in noted}):
        raise AuditError("audit", "two of the noted heads contradict each other: there were two logs")
    head, signatures, signed_until = Head(0, GENESIS), 0, 0
    for entry in entries:
        head = _next(head, entry)
        if entry.seq in expected and expected[entry.seq] != entry.hash:
            raise AuditError("audit", f"entry {entry.seq} is not the one that was noted: the log was rewritten")
        if root_key is not None and entry.seq in at:
            _verify_seal(at[entry.seq], head, keys, root_key, entry.at_ms)
            signatures, signed_until = signatures + 1, entry.seq
    last = max((*expected, *at), default=0)
    if last > head.seq:
        what = "the noted entry" if last in expected else "a signature over entry"
        raise AuditError("audit", f"the log ends at entry {head.seq}, before {what} {last}: it was cut off")
    if root_key is not None and signed_until < head.seq:
        raise AuditError(
            "audit", f"nobody signed entry {signed_until + 1} to {head.seq}: the server writes none unsigned"
        )
    return Report(head.seq, signatures, signed_until, head)


def _next(head: Head, entry: Entry) -> Head:
    if entry.seq != head.seq + 1:
        raise AuditError("audit", f"entry {head.seq + 1} is missing: entry {entry.seq} follows")
    if entry.hash != entry_hash(head.hash, entry.seq, entry.at_ms, entry.event, entry.detail):
        raise AuditError("audit", f"entry {entry.seq} ({entry.event[:64]}) was altered, or one before it was replaced")
    return Head(entry.seq, entry.hash)


def _keys(seals: Sequence[Seal], certificates: Mapping[str, Certificate]) -> Mapping[str, Certificate]:
    for seal in seals:
        found = certificates.get(seal.signer)
        if found is None or signer_of(found) != seal.signer:
            raise AuditError("audit", f"the certificate {seal.signer[:32]} that signed entry {seal.seq} is missing")
    return certificates


def _verify_seal(seal: Seal, head: Head, keys: Mapping[str, Certificate], root_key: bytes, at_ms: int) -> None:
    try:
        server = verify_certificate(keys[seal.signer], root_key, role="server", now_s=at_ms / 1000)
        verify_head(server.sign_key, seal.signature, head, SEAL_CONTEXT)
    except UplinkError as error:
        raise AuditError("audit", f"the signature over entry {seal.seq} does not hold: {error}") from error
