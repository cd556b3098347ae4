"""What the conformance suite talks to: KMEs as applications (SAEs) see them, behind ports that tests stand in for."""

import base64
import binascii
import json
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import quote
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Answer:
    """What a KME answered. `document` is the JSON object, None if the body is none."""

    status: int
    document: dict[str, Any] | None = field(repr=False)

    @classmethod
    def parse(cls, status: int, body: bytes) -> "Answer":
        """Take a response's status and body."""
        try:
            document = json.loads(body)
        except ValueError:
            document = None
        return cls(status, document if isinstance(document, dict) else None)


class Sae(Protocol):
    """One application at one KME. Raises ToolError when the KME cannot be reached."""

    def call(self, method: str, path: str, content: bytes | None = None) -> Answer:
        """Send a request to `/api/v1/keys/` + `path`, with `content` as JSON body."""


class Tls(Protocol):
    """Whether the KME lets a client in that it should not; each answers with what went wrong, or None."""

    def accepts_old_version(self) -> str | None:
        """TLS 1.1 and older."""

    def accepts_anonymous(self) -> str | None:
        """A client without a certificate."""

    def accepts_stranger(self) -> str | None:
        """A client whose certificate is of an unknown authority."""


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a key container; the key stays out of `repr`."""

    key_id: str
    value: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Target:
    """The KME under test and the applications that the tester has papers of; None: not given."""

    master: str
    slave: str
    tls: Tls | None
    enc: Sae
    """The master at its KME."""
    dec: Sae | None = None
    """The slave at its KME, which may be another."""
    dec_as_other: Sae | None = None
    """An application that is no slave of these keys, at the slave's KME."""
    third: str | None = None
    third_dec: Sae | None = None
    """Another slave of the same master, at its KME."""

    def get(self, path: str) -> Answer:
        """GET as the master."""
        return self.enc.call("GET", path)

    def take(self, request: object, slave: str | None = None) -> Answer:
        """POST a key request as the master."""
        return self.enc.call("POST", f"{quote(slave or self.slave, safe='')}/enc_keys", json.dumps(request).encode())

    def status(self) -> dict[str, Any]:
        """The status document. Raises Failed."""
        answer = self.get(f"{quote(self.slave, safe='')}/status")
        if answer.status != 200 or answer.document is None:
            raise Failed(f"status answers {answer.status}")
        return answer.document

    def redeem(self, key_ids: list[str], sae: Sae | None = None) -> Answer:
        """POST key identifiers as the slave, or as `sae`. Raises Skipped without the slave's papers."""
        sae = sae or self.dec
        if sae is None:
            raise Skipped("needs the slave's certificate")
        body = {"key_IDs": [{"key_ID": key_id} for key_id in key_ids]}
        return sae.call("POST", f"{quote(self.master, safe='')}/dec_keys", json.dumps(body).encode())


class Failed(Exception):  # noqa: N818 (a finding, no fault of the program)
    """The KME does not do what the check asks."""


class Skipped(Exception):  # noqa: N818
    """The check cannot be made here."""


def keys_of(answer: Answer, number: int | None = None, size: int | None = None) -> list[Key]:
    """Read a key container of clause 6.3. Raises Failed when it is none, or not `number` keys of `size` bits."""
    expect_status(answer, 200)
    entries = (answer.document or {}).get("keys")
    if not isinstance(entries, list):
        raise Failed("the answer is no key container")
    keys = []
    for entry in entries:
        try:
            UUID(entry["key_ID"])
            keys.append(Key(entry["key_ID"], base64.b64decode(entry["key"], validate=True)))
        except (TypeError, KeyError, ValueError, AttributeError, binascii.Error):
            raise Failed("an entry lacks a key_ID (UUID) or a key (Base64)") from None
    if number is not None and len(keys) != number:
        raise Failed(f"{len(keys)} keys instead of {number}")
    if size is not None and any(8 * len(key.value) != size for key in keys):
        raise Failed(f"keys of {sorted({8 * len(key.value) for key in keys})} bits instead of {size}")
    return keys


def expect_status(answer: Answer, *allowed: int) -> None:
    """Raise Failed when the answer has another status."""
    if answer.status not in allowed:
        raise Failed(f"status {answer.status} instead of {' or '.join(map(str, allowed))}")


def expect_error(answer: Answer, *allowed: int, message: str | None = None) -> None:
    """Raise Failed unless the answer has this status, the error format of clause 6.5, no keys, and this message."""
    expect_status(answer, *allowed)
    document = answer.document
    if document is None or not isinstance(document.get("message"), str):
        raise Failed(f"status {answer.status} without an error object that has a message")
    details = document.get("details", [])
    if not isinstance(details, list) or not all(isinstance(detail, dict) for detail in details):
        raise Failed("details is no array of objects")
    if "keys" in document:
        raise Failed("an error that carries keys")
    if message is not None and document["message"].strip().rstrip(".").lower() != message:
        raise Failed(f'message is not "{message}"')
