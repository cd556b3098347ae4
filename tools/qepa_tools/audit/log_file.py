"""Reading an audit log: from a server's state directory, also while it runs, or from an exported file.

An export has one JSON object a line: ``{"certificate": ...}`` of each signer, ``{"entry": [seq, at_ms, event, detail,
hash]}`` and ``{"seal": [seq, signer, signature]}``, in order, then ``{"anchor": ...}``, heads that others
countersigned; bytes are hexadecimal, detail is the hashed text.
"""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qepa_server.audit.seals import CERTIFICATE_KEY, signer_of
from qepa_server.audit.verification import Entry, Seal
from qepa_server.audit.witnesses import ANCHOR_KEY
from qepa_uplink.audit import ANCHOR_CONTEXT, Head, anchor_text, countersign
from qepa_uplink.errors import UplinkError
from qepa_uplink.identity import Certificate, Identity, Subject, verify_certificate, verify_signature

from ..errors import ToolError


@dataclass(slots=True)
class Log:
    """A whole log in memory; ``certificates`` by signer."""

    entries: list[Entry] = field(default_factory=list)
    seals: list[Seal] = field(default_factory=list)
    certificates: dict[str, Certificate] = field(default_factory=dict)
    anchors: list[object] = field(default_factory=list)

    @property
    def head(self) -> Head:
        """The newest entry as it is stored, not verified; seq 0 if there is none."""
        return Head(self.entries[-1].seq, self.entries[-1].hash) if self.entries else Head(0, bytes(32))

    def lines(self) -> Iterator[str]:
        """Give the lines of an export."""
        for certificate in self.certificates.values():
            yield json.dumps({"certificate": certificate.model_dump(mode="json")})
        seals = {seal.seq: seal for seal in self.seals}
        for entry in self.entries:
            yield json.dumps({"entry": [entry.seq, entry.at_ms, entry.event, entry.detail, entry.hash.hex()]})
            if entry.seq in seals:
                seal = seals[entry.seq]
                yield json.dumps({"seal": [seal.seq, seal.signer, seal.signature.hex()]})
        for record in self.anchors:
            yield json.dumps({"anchor": record})


def read_log(place: Path) -> Log:
    """Read a state directory or an export; raises ToolError naming what can't be read."""
    return _from_database(place / "server.db") if place.is_dir() else _from_export(place)


def _from_database(path: Path) -> Log:
    if not path.is_file():
        raise ToolError(f"There is no server's database {path}.")
    log = Log()
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
            database.execute("BEGIN")  # one moment of a log that grows
            for row in database.execute("SELECT seq, at_ms, event, detail, hash FROM audit ORDER BY seq"):
                log.entries.append(Entry(*row))
            for row in database.execute("SELECT seq, signer, signature FROM audit_seals ORDER BY seq"):
                log.seals.append(Seal(*row))
            query = "SELECT value FROM settings WHERE substr(key, 1, ?) = ?"
            for (value,) in database.execute(query, (len(CERTIFICATE_KEY), CERTIFICATE_KEY)):
                certificate = Certificate.model_validate_json(value)
                log.certificates[signer_of(certificate)] = certificate
            for (value,) in database.execute(query, (len(ANCHOR_KEY), ANCHOR_KEY)):
                log.anchors.append(json.loads(value))
    except (sqlite3.Error, ValueError, TypeError) as error:
        raise ToolError(f"Cannot read the audit log in {path}: {error}.") from error
    return log


def _from_export(path: Path) -> Log:
    log = Log()
    read = 0
    try:
        for line in path.read_text().splitlines():
            read += 1
            ((kind, value),) = json.loads(line).items()
            if kind == "entry":
                log.entries.append(_entry(*value))
            elif kind == "seal":
                seq, signer, signature = value
                log.seals.append(Seal(int(seq), str(signer), bytes.fromhex(signature)))
            elif kind == "certificate":
                certificate = Certificate.model_validate_json(json.dumps(value))
                log.certificates[signer_of(certificate)] = certificate
            elif kind == "anchor":
                log.anchors.append(value)
            else:
                raise ValueError(kind)
    except OSError as error:
        raise ToolError(f"Cannot read {path}: {error.strerror}.") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise ToolError(f"{path} is no exported audit log: line {read} does not fit.") from error
    return log


def _entry(seq: object, at_ms: object, event: object, detail: object, digest: object) -> Entry:
    if not (isinstance(seq, int) and isinstance(at_ms, int)):
        raise TypeError("an entry has numbers")
    if not (isinstance(event, str) and isinstance(detail, str) and isinstance(digest, str)):
        raise TypeError("an entry has texts")
    return Entry(seq, at_ms, event, detail, bytes.fromhex(digest))


def parse_head(text: str) -> Head:
    """Read SEQ:HASH as the server prints it; raises ToolError."""
    seq, _, digest = text.partition(":")
    try:
        head = Head(int(seq), bytes.fromhex(digest))
    except ValueError:
        head = Head(-1, b"")
    if head.seq < 0 or len(head.hash) != 32:
        raise ToolError(f"{text[:80]!r} is no head: SEQ:HASH with a hash of 64 hexadecimal digits.")
    return head


def anchor(head: Head, identity: Identity) -> str:
    """Return ``head`` countersigned by ``identity``, as JSON to keep away from the server."""
    return anchor_text(head, identity.certificate, countersign(head, identity))


def read_anchor(path: Path, root_key: bytes) -> tuple[Head, str]:
    """Return (head, who countersigned it); raises ToolError for a file or signature that does not hold."""
    try:
        record = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ToolError(f"{path} is no countersigned head.") from error
    return verify_anchor(record, root_key, str(path))


def verify_anchor(record: Any, root_key: bytes, place: str) -> tuple[Head, str]:
    """Return (head, who countersigned it) of a record from ``place``; raises ToolError if it does not hold."""
    try:
        certificate = Certificate.model_validate_json(json.dumps(record["certificate"]))
        subject = Subject.model_validate_json(certificate.body)
        verify_certificate(certificate, root_key, role=subject.role, now_s=0)  # it may have expired since
        verify_signature(subject.sign_key, bytes.fromhex(record["signature"]), record["head"].encode(), ANCHOR_CONTEXT)
    except UplinkError as error:
        raise ToolError(f"The countersignature in {place} does not hold: {error}.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ToolError(f"{place} is no countersigned head.") from error
    return parse_head(record["head"]), subject.name
