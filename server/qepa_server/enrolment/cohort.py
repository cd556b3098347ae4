"""The cohort key, which all boards hold and gateways lack: the check values of sums rest on it."""

from collections.abc import Callable

from qepa_wire.keys import KEY_BYTES

from ..audit import chain
from ..store import settings
from ..store.database import Store
from ..store.vault import Vault

_COHORT_KEY = "cohort key"


def cohort_key(store: Store, vault: Vault, random_bytes: Callable[[int], bytes], now_ms: int) -> bytes:
    """Return the cohort key; make it at the first start."""
    with store.write() as connection:
        sealed = settings.read(connection, _COHORT_KEY)
        if sealed is None:
            key = random_bytes(KEY_BYTES)
            settings.add(connection, _COHORT_KEY, vault.seal(key, _COHORT_KEY))
            chain.append(connection, now_ms, "key.cohort")
            return key
    return vault.open_sealed(sealed, _COHORT_KEY)
