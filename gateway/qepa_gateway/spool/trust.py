"""Certificates of the other gateways, pair keys with them, and consents with their care keys."""

from dataclasses import dataclass, field

from qepa_uplink.identity import Certificate

from .database import Spool


@dataclass(frozen=True, slots=True)
class StoredConsent:
    """A consent in force for one board. ``repr`` shows no key."""

    board: int
    consent_id: bytes
    patient: str
    not_after_s: int
    key: bytes = field(repr=False)


class TrustStore:
    """Writes inside the caller's transaction."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool

    def certificates(self) -> dict[str, Certificate]:
        """Certificates by name, as verified when they came."""
        rows = self._spool.rows("SELECT name, certificate FROM directory")
        return {name: Certificate.model_validate_json(text) for name, text in rows}

    def save_certificate(self, name: str, certificate: Certificate) -> None:
        """Store a verified certificate in place of the one before."""
        self._spool.execute("INSERT OR REPLACE INTO directory VALUES (?, ?)", (name, certificate.model_dump_json()))

    def pair_key(self, peer: str, certificate_digest: bytes) -> bytes | None:
        """The key shared with the holder of that certificate."""
        row = self._spool.row("SELECT key FROM pairs WHERE peer=? AND certificate=?", (peer, certificate_digest))
        return None if row is None else self._spool.vault.open(row[0], f"pairs/{peer}")

    def save_pair_key(self, peer: str, certificate_digest: bytes, key: bytes) -> None:
        """Store the key shared with ``peer``; the key with an earlier certificate of that name is gone."""
        sealed = self._spool.vault.seal(key, f"pairs/{peer}")
        self._spool.execute("INSERT OR REPLACE INTO pairs VALUES (?, ?, ?)", (peer, certificate_digest, sealed))

    def consents(self) -> list[StoredConsent]:
        """All consents in force."""
        rows = self._spool.rows("SELECT board, consent_id, patient, not_after_s, key FROM consents")
        return [
            StoredConsent(board, id_, patient, until, self._spool.vault.open(key, f"consents/{board:08x}/{id_.hex()}"))
            for board, id_, patient, until, key in rows
        ]

    def save_consent(self, consent: StoredConsent) -> None:
        """Store a consent in place of the board's last one."""
        place = f"consents/{consent.board:08x}/{consent.consent_id.hex()}"
        self._spool.execute(
            "INSERT OR REPLACE INTO consents VALUES (?, ?, ?, ?, ?)",
            (
                consent.board,
                consent.consent_id,
                consent.patient,
                consent.not_after_s,
                self._spool.vault.seal(consent.key, place),
            ),
        )

    def drop_consent(self, board: int) -> None:
        """Delete the care key of a board."""
        self._spool.execute("DELETE FROM consents WHERE board=?", (board,))

    def end_consent(self, consent_id: bytes) -> None:
        """Remember that a consent was withdrawn, so that no late grant revives it."""
        self._spool.execute("INSERT OR IGNORE INTO ended_consents VALUES (?)", (consent_id,))

    def has_ended(self, consent_id: bytes) -> bool:
        """Whether a consent was withdrawn."""
        return self._spool.row("SELECT 1 FROM ended_consents WHERE consent_id=?", (consent_id,)) is not None
