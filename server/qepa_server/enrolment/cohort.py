"""The cohort key, which all boards hold and gateways lack: the check values of sums rest on it."""

from collections.abc import Callable

from sqlalchemy import insert, select

from qepa_wire.keys import KEY_BYTES

from ..audit import chain
from ..store.database import Store
from ..store.schema import settings
from ..store.vault import Vault

_COHORT_KEY = "cohort key"


def cohort_key(store: Store, vault: Vault, random_bytes: Callable[[int], bytes], now_ms: int) -> bytes:
    """Return the cohort key; make it at the first start."""
    with store.write() as connection:
        sealed = connection.execute(select(settings.c.value).where(settings.c.key == _COHORT_KEY)).scalar()
        if sealed is None:
            key = random_bytes(KEY_BYTES)
            connection.execute(insert(settings).values(key=_COHORT_KEY, value=vault.seal(key, _COHORT_KEY)))
            chain.append(connection, now_ms, "key.cohort")
            return key
    return vault.open_sealed(sealed, _COHORT_KEY)
