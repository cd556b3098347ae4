"""What one link end keeps: keys, authentication pads and passports in one file, changed together."""

from pathlib import Path

from qepa_qkd.authentication import InitialSecret
from qepa_qkd.keystore import KeyStore
from qepa_qkd.pads import PadStore
from qepa_qkd.store_database import StoreDatabase


class Vault:
    """Key store and pad ledger over one database; a block enters and leaves both or neither."""

    def __init__(self, path: Path, kek_path: Path, secret: InitialSecret, *, is_alice: bool) -> None:
        """Open or create. Raises ConfigError, CorruptError, or SecurityError when `secret` is another link's."""
        self._database = StoreDatabase(path, kek_path)
        self.keys = KeyStore(self._database)
        self.pads = PadStore(self._database, is_alice=is_alice)
        self.pads.import_initial(secret)

    def store_block(self, block_id: int, key: bytes, authentication_bytes: int, passport: str, *, live: bool) -> None:
        """Store a block durably; its first `authentication_bytes` become one-time pads."""
        with self._database.transaction():
            if authentication_bytes:
                self.pads.add_segment(block_id, key[:authentication_bytes], live=live)
            self.keys.add_block(block_id, key[authentication_bytes:], passport, live=live)

    def settle(self, block_id: int, *, live: bool) -> None:
        """The peer has the block (live) or does not (its key is destroyed)."""
        with self._database.transaction():
            self.pads.settle(block_id, live=live)
            self.keys.settle(block_id, live=live)

    def close(self) -> None:
        """Close the file."""
        self._database.close()
