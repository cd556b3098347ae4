"""What one link end keeps: keys, authentication pads and passports in one file, changed together."""

from contextlib import AbstractContextManager
from pathlib import Path

from qepa_qkd.authentication import InitialSecret
from qepa_qkd.delivery_ledger import DeliveryLedger
from qepa_qkd.key_id import KeyIdentifiers
from qepa_qkd.keystore import KeyStore
from qepa_qkd.pads import PadStore
from qepa_qkd.store_database import StoreDatabase


class Vault:
    """Key store, pad ledger and delivery ledger over one database; a block enters and leaves all or none."""

    def __init__(self, path: Path, kek_path: Path, secret: InitialSecret, *, is_alice: bool) -> None:
        """Open or create. Raises ConfigError, CorruptError, or SecurityError when `secret` is another link's."""
        self._database = StoreDatabase(path, kek_path)
        self.keys = KeyStore(self._database)
        self.pads = PadStore(self._database, is_alice=is_alice)
        self.pads.import_initial(secret)
        self.deliveries = DeliveryLedger(self._database)
        self.identifiers = KeyIdentifiers(secret.channel_key)

    def transaction(self) -> AbstractContextManager[object]:
        """Join what is done inside: all or nothing, durable when it is left."""
        return self._database.transaction()

    def store_block(
        self,
        block_id: int,
        key: bytes,
        authentication_bytes: int,
        passport: str,
        *,
        live: bool,
        renewed: bool = False,
        created_s: float | None = None,
    ) -> None:
        """Store a block durably; its first `authentication_bytes` become pads.

        `renewed`: its tags were made with quantum key. `created_s`: by default now.
        """
        with self._database.transaction():
            if authentication_bytes:
                self.pads.add_segment(block_id, key[:authentication_bytes], live=live)
            if renewed:
                self.pads.note_renewed(block_id)
            self.keys.add_block(block_id, key[authentication_bytes:], passport, live=live, created_s=created_s)

    def settle(self, block_id: int, *, live: bool) -> None:
        """The peer has the block (live) or does not (its key is destroyed)."""
        with self._database.transaction():
            self.pads.settle(block_id, live=live)
            self.keys.settle(block_id, live=live)

    def close(self) -> None:
        """Close the files."""
        self._database.close()
