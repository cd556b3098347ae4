"""Every model that was ever released: number, blob, and the signed message that carries it."""

from sqlalchemy import Connection, insert, select, update

from qepa_uplink.envelope import sign
from qepa_uplink.identity import Identity
from qepa_uplink.messages import ModelRelease
from qepa_wire.model import CONTEXT, Model, decode_model, encode_model, encode_release

from ..audit import chain
from ..store.database import Store
from ..store.schema import models, settings
from .signer import HssSigner

_USED_KEY = "hss_used"


def signatures_used(connection: Connection) -> int:
    """Signatures of the model key that the database knows of."""
    row = connection.execute(select(settings.c.value).where(settings.c.key == _USED_KEY)).first()
    return 0 if row is None else int(row.value)


class ModelRegistry:
    """The current model and its release; versions rise by one."""

    def __init__(self, store: Store, signer: HssSigner, identity: Identity) -> None:
        self._store = store
        self._signer = signer
        self._identity = identity
        with store.read() as connection:
            row = connection.execute(select(models).order_by(models.c.version.desc()).limit(1)).first()
        self._current: Model | None = None if row is None else decode_model(row.blob)
        self._envelope: bytes = b"" if row is None else row.envelope
        self.rounds_trained = 0 if self._current is None else self._current.version - 1

    @property
    def current(self) -> Model:
        """The newest model; :meth:`release` was called before."""
        if self._current is None:
            raise LookupError("no model was released yet")
        return self._current

    @property
    def empty(self) -> bool:
        """Tell whether there is no model yet."""
        return self._current is None

    @property
    def envelope(self) -> bytes:
        """The newest ModelRelease, signed, as it is sent."""
        return self._envelope

    @property
    def model_root(self) -> bytes:
        """The HSS public key."""
        return self._signer.public_key

    def prepare(self, model: Model, round_: int) -> bytes:
        """Return the signed ModelRelease of ``model``, not yet in the registry (call :meth:`release` with it)."""
        blob = encode_model(model)
        release = encode_release(blob, self._signer.sign(CONTEXT + blob))
        return sign(self._identity, ModelRelease(version=model.version, round=round_, release=release))

    def release(self, connection: Connection, model: Model, envelope: bytes, round_: int, now_ms: int) -> None:
        """Store a prepared release in the caller's transaction; :meth:`adopt` it when that is durable."""
        connection.execute(
            insert(models).values(
                version=model.version, round=round_, blob=encode_model(model), envelope=envelope, created_ms=now_ms
            )
        )
        used = str(self._signer.used).encode()
        if not connection.execute(update(settings).where(settings.c.key == _USED_KEY).values(value=used)).rowcount:
            connection.execute(insert(settings).values(key=_USED_KEY, value=used))
        chain.append(connection, now_ms, "model.released", version=model.version, round=round_)

    def adopt(self, model: Model, envelope: bytes) -> None:
        """Make a stored release the current one."""
        self._current, self._envelope = model, envelope
        self.rounds_trained = model.version - 1
