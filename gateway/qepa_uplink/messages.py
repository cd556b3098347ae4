"""Messages between gateways and server. One frozen model each; unknown fields and shapes are refused."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from .beat_reasons import PLAYERS
from .bedside_models import CONTRACTS, ECG_BEATS, MAX_BLOB, NUMBERS
from .identity import Certificate

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]
BoardId = Annotated[int, Field(ge=1, le=0xFFFFFFFF)]
Nonce = Annotated[bytes, Field(min_length=32, max_length=32)]
RoundNumber = Annotated[int, Field(ge=1, lt=2**63)]
TimeMs = Annotated[int, Field(ge=0, lt=2**53)]  # exact in every JSON reader, and fits a database's integer
Amount = Annotated[int, Field(ge=0, lt=2**53)]
StreamId = Annotated[int, Field(ge=1, le=2)]
Purpose = Literal["care", "statistics", "learning"]
CellId = Annotated[int, Field(ge=1, le=65535)]
Reading = tuple[
    Annotated[int, Field(ge=1, le=255)],
    Annotated[int, Field(ge=0, le=255)],
    Annotated[int, Field(ge=-(2**15), lt=2**15)],
]

Thousandths = Annotated[int, Field(ge=-4000, le=4000)]
Share = Annotated[int, Field(ge=-2000, le=2000)]

BEATS = CONTRACTS[ECG_BEATS]
LEAD_LENGTH = BEATS.inputs[0].shape[1]
LEAD_STEPS = 31  # a byte holds +-4 heights


class Message(BaseModel):
    """Base of all messages: frozen, closed, bytes as URL-safe base64."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_bytes="base64", val_json_bytes="base64")


class SessionOpen(Message):
    """Gateway to server, signed: a fresh session key sealed to the server. ``number`` rises for ever."""

    type: Literal["session_open"] = "session_open"
    certificate: Certificate
    number: int = Field(ge=1, lt=2**53)
    sealed_key: bytes = Field(max_length=4096)


class SessionUnknown(Message):
    """Server to gateway, signed: I do not hold your session (I restarted); open a new one."""

    type: Literal["session_unknown"] = "session_unknown"
    session: bytes = Field(min_length=16, max_length=16)


class Adopted(Message):
    """One enrolled board of a gateway; ``patient`` is a pseudonym.

    ``barred``: streams that it is not to be asked for, because its patient withdrew or has no privacy budget left.
    """

    board: BoardId
    patient: Name
    barred: tuple[StreamId, ...] = Field(default=(), max_length=4)


class Welcome(Message):
    """Server to gateway, sealed: the answer to SessionOpen, and again whenever the boards change."""

    type: Literal["welcome"] = "welcome"
    boards: tuple[Adopted, ...] = Field(max_length=4096)


class Ack(Message):
    """Either way, sealed: these durable messages are stored."""

    type: Literal["ack"] = "ack"
    ids: tuple[str, ...] = Field(max_length=256)


class Directory(Message):
    """Server to gateways, signed: certificates of all gateways, checked by each against the root it pins."""

    type: Literal["directory"] = "directory"
    certificates: tuple[Certificate, ...] = Field(max_length=1024)


class StreamSpec(Message):
    """What one stream of a round asks of each board: the quantizer's bounds, and privacy (0: none).

    ``noise_q8`` is the variance of a board's noise share in words squared, times 256; ``clip_norm`` bounds the
    Euclidean norm of one patient's whole contribution, in the units of the input.
    """

    stream: StreamId
    n_words: int = Field(ge=1, le=65535)
    bound: int = Field(ge=1, le=2**31)
    q_max: int = Field(ge=1, le=2**31)
    rounding: int = Field(ge=0, le=1)
    noise_q8: int = Field(default=0, ge=0, le=2**32 - 1)
    clip_norm: int = Field(default=0, ge=0, le=2**32 - 1)


class RoundOpen(Message):
    """Server to gateways, signed: a round is coming; ``commitment`` is SHA-256 of the server's nonce."""

    type: Literal["round_open"] = "round_open"
    round: RoundNumber
    commitment: Nonce
    model_version: int = Field(ge=0, le=2**32 - 1)
    streams: tuple[StreamSpec, ...] = Field(min_length=1, max_length=4)
    n_max: int = Field(ge=1, le=65535)
    min_group: int = Field(ge=5, le=65535)
    cell_target: int = Field(ge=5, le=65535)
    ready_within_ms: int = Field(ge=1, le=3_600_000)
    collect_within_ms: int = Field(ge=1, le=3_600_000)
    settle_within_ms: int = Field(ge=1, le=3_600_000)


class Ready(Message):
    """Gateway to server, signed: I take part with so many patients; ``nonce`` goes into the public seed."""

    type: Literal["ready"] = "ready"
    round: RoundNumber
    gateway: Name
    nonce: Nonce
    commitment: Nonce
    patients: int = Field(ge=0, le=65535)


class RoundStart(Message):
    """Server to gateways, signed: the nonces that fix the cells; ``readies`` are the signed messages themselves."""

    type: Literal["round_start"] = "round_start"
    round: RoundNumber
    server_nonce: Nonce
    readies: tuple[bytes, ...] = Field(max_length=1024)


class PairOffer(Message):
    """Gateway to gateway, signed: a pair key sealed to ``recipient`` by the gateway with the lesser name."""

    type: Literal["pair_offer"] = "pair_offer"
    sender: Name
    recipient: Name
    sealed_key: bytes = Field(max_length=4096)


class PairWanted(Message):
    """Gateway to gateway, signed: we share a cell and I hold no pair key of yours; offer it again."""

    type: Literal["pair_wanted"] = "pair_wanted"
    sender: Name
    recipient: Name


class Count(Message):
    """Gateway to the other gateways of a cell, signed: my frozen contribution, by number and digest."""

    type: Literal["count"] = "count"
    round: RoundNumber
    cell: CellId
    stream: StreamId
    gateway: Name
    patients: int = Field(ge=0, le=65535)
    boards: int = Field(ge=0, le=65535)
    contributors_digest: Nonce


class Partial(Message):
    """Gateway to server, signed, durable: this gateway's sum for a cell, link masks off, pair masks on."""

    type: Literal["partial"] = "partial"
    id: str = Field(max_length=64)
    round: RoundNumber
    cell: CellId
    stream: StreamId
    gateway: Name
    contributors: tuple[BoardId, ...] = Field(max_length=65535)
    patients: int = Field(ge=0, le=65535)
    n_words: int = Field(ge=1, le=65535)
    sealed: bytes = Field(max_length=4 * 65535 + 16)
    last_frame_ms: TimeMs


class CellVoid(Message):
    """Gateway to server, signed, durable: this cell gives no sum, and why."""

    type: Literal["cell_void"] = "cell_void"
    id: str = Field(max_length=64)
    round: RoundNumber
    cell: CellId
    stream: StreamId
    gateway: Name
    reason: str = Field(max_length=200)


class ModelRelease(Message):
    """Server to gateways, signed: a model with its HSS signature for the boards (qepa_wire.model.decode_release)."""

    type: Literal["model_release"] = "model_release"
    version: int = Field(ge=0, le=2**32 - 1)
    round: int = Field(ge=0, lt=2**63)
    release: bytes = Field(max_length=16384)


class BedsideRelease(Message):
    """Server to gateways, signed: a model for the gateway itself (bedside_models.py), with its card (JSON).

    Without ``blob`` it is the one of SHA-256 ``digest`` that the gateway's own package ships, under a new version.
    """

    type: Literal["bedside_release"] = "bedside_release"
    name: Name
    version: int = Field(ge=1, le=2**32 - 1)
    digest: Nonce
    blob: bytes = Field(max_length=MAX_BLOB)
    card: str = Field(max_length=2**18)


class FirmwareRelease(Message):
    """Server to gateways, signed: a firmware bundle (qepa_uplink.firmware) for these boards.

    ``number`` rises with every release, so that an old one said again changes nothing; ``kind`` names the line that
    the bundle belongs to, such as one target and sensor set: a newer release of a kind takes the place of its last.
    """

    type: Literal["firmware_release"] = "firmware_release"
    number: int = Field(ge=1, lt=2**53)
    kind: Name
    boards: tuple[BoardId, ...] = Field(min_length=1, max_length=4096)
    bundle: bytes = Field(max_length=2**18)


class Consent(Message):
    """A patient's consent, signed by the consent desk (see :class:`SignedConsent`).

    ``care`` is live monitoring; ``statistics`` and ``learning`` are to be in the sums of that stream.
    """

    consent_id: bytes = Field(min_length=16, max_length=16)
    patient: Name
    purpose: Purpose = "care"
    boards: tuple[BoardId, ...] = Field(max_length=64)
    not_before_s: int = Field(ge=0, lt=2**43)
    not_after_s: int = Field(ge=0, lt=2**43)


class SignedConsent(Message):
    """The exact bytes of a Consent with the desk's certificate and signature."""

    body: bytes = Field(max_length=4096)
    certificate: Certificate
    signature: bytes = Field(max_length=4096)


class CareGrant(Message):
    """Server to gateway, sealed: the consent, and the care key of one board that it covers."""

    type: Literal["care_grant"] = "care_grant"
    consent: SignedConsent
    board: BoardId
    care_key: Nonce


class CareRevoke(Message):
    """Server to gateway, signed: the consent is withdrawn; forget its keys and stop the boards."""

    type: Literal["care_revoke"] = "care_revoke"
    consent_id: bytes = Field(min_length=16, max_length=16)


class AuditHead(Message):
    """Server to gateway, sealed: a head of the audit log with the server's signature (qepa_uplink.audit).

    ``links`` stand for the entries after ``base_seq``, which the gateway countersigned last, as far as is known.
    """

    type: Literal["audit_head"] = "audit_head"
    seq: int = Field(ge=1, lt=2**53)
    hash: Nonce
    signature: bytes = Field(max_length=4096)
    base_seq: Amount
    links: tuple[Nonce, ...] = Field(default=(), max_length=1024)


class AuditKept(Message):
    """Gateway to server, sealed: the head that it keeps, countersigned; the answer to each AuditHead."""

    type: Literal["audit_kept"] = "audit_kept"
    seq: int = Field(ge=1, lt=2**53)
    hash: Nonce
    signature: bytes = Field(max_length=4096)


class CareRecord(Message):
    """Gateway to server, sealed: one board's care payload as it came, still under its care key."""

    type: Literal["care_record"] = "care_record"
    board: BoardId
    seq: int = Field(ge=0, le=2**32 - 1)
    payload: bytes = Field(max_length=256)
    received_ms: TimeMs


class WaveWatch(Message):
    """Server to gateway, sealed: somebody looks at a board's ECG for ``seconds`` from now on; 0: nobody any more."""

    type: Literal["wave_watch"] = "wave_watch"
    board: BoardId
    seconds: int = Field(ge=0, le=600)


class WaveRecord(Message):
    """Gateway to server, sealed: one board's WAVE payload as it came, still under its care key, while it is watched."""

    type: Literal["wave_record"] = "wave_record"
    board: BoardId
    seq: int = Field(ge=0, le=2**32 - 1)
    payload: bytes = Field(max_length=4096)
    received_ms: TimeMs


class Findings(Message):
    """Gateway to server, sealed: what a model at the bedside makes of one board's care stream.

    Only under a consent in force, as a CareRecord. ``readings`` are (code, quality, value) as in a care record, codes
    of readings.py; ``t_ms`` is the board's time since boot that they are about.
    """

    type: Literal["findings"] = "findings"
    board: BoardId
    consent_id: bytes = Field(min_length=16, max_length=16)
    boots: int = Field(ge=0, le=0xFFFF)
    t_ms: int = Field(ge=0, le=2**32 - 1)
    received_ms: TimeMs
    model: Name
    version: int = Field(ge=1, le=2**32 - 1)
    readings: tuple[Reading, ...] = Field(max_length=16)


class ExplainedBeat(Message):
    """Gateway to server, sealed: a beat that the gateway's ECG model calls other than normal, and why.

    Only under a consent in force, as Findings. Against the same patient's usual beat in a regular rhythm: ``shares``
    are the exact Shapley values of PLAYERS (beat_reasons.py) for the probability of ``answer`` less that of N, in
    thousandths; ``probabilities`` (N, S, V, F) and ``numbers`` (NUMBERS of bedside_models.py) likewise. ``beat`` and
    ``usual`` are the first lead at 125 Hz as the model saw it, signed bytes, LEAD_STEPS to the height of the usual QRS.
    ``t_ms`` is the R peak's time since the board's boot, ``received_ms`` when that reached the gateway.
    """

    type: Literal["explained_beat"] = "explained_beat"
    board: BoardId
    consent_id: bytes = Field(min_length=16, max_length=16)
    boots: int = Field(ge=0, le=0xFFFF)
    t_ms: int = Field(ge=0, le=2**32 - 1)
    received_ms: TimeMs
    model: Name
    version: int = Field(ge=1, le=2**32 - 1)
    answer: Literal["S", "V", "F"]
    probabilities: tuple[Share, ...] = Field(min_length=len(BEATS.outputs), max_length=len(BEATS.outputs))
    shares: tuple[Share, ...] = Field(min_length=len(PLAYERS), max_length=len(PLAYERS))
    numbers: tuple[Thousandths, ...] = Field(min_length=len(NUMBERS), max_length=len(NUMBERS))
    beat: bytes = Field(min_length=LEAD_LENGTH, max_length=LEAD_LENGTH)
    usual: bytes = Field(min_length=LEAD_LENGTH, max_length=LEAD_LENGTH)


class AlertReport(Message):
    """Gateway to server, sealed, durable: an alert as the gateway opened it."""

    type: Literal["alert"] = "alert"
    id: str = Field(max_length=64)
    board: BoardId
    kind: int = Field(ge=0, le=255)
    active: bool
    value: int = Field(ge=-(2**15), lt=2**15)
    t_ms: TimeMs
    received_ms: TimeMs


class BoardStatus(Message):
    """What may be known of a board: is it there, which key does it use."""

    board: BoardId
    online: bool
    last_seen_ms: TimeMs
    epoch: Amount
    key_source: Literal["qkd", "ratchet", "none"]
    pads: Amount
    model_version: Amount
    battery_permille: int | None = None
    reset_cause: Literal["unknown", "power_on", "hard", "watchdog", "deep_sleep", "soft", "brown_out"] = "unknown"
    mode: Literal["normal", "safe", "trial"] = "normal"
    pad_bytes: Amount = 0
    firmware: int = Field(default=0, ge=0, le=65535)


class ModelStatus(Message):
    """How far the newest model has come at a gateway: with one board, with all, or withdrawn."""

    version: Amount
    stage: Literal["canary", "ward", "withdrawn"]
    canary: BoardId | None = None
    failed: tuple[int, ...] = Field(default=(), max_length=4096)


class BedsideStatus(Message):
    """A model that a gateway runs itself: version, SHA-256 of its blob, whether it is the package's own, its errors.

    ``refused_version`` of the server was not taken, and ``refused`` says why.
    """

    name: Name
    version: int = Field(ge=0, le=2**32 - 1)
    digest: Nonce
    shipped: bool
    errors: Amount = 0
    refused_version: int = Field(default=0, ge=0, le=2**32 - 1)
    refused: str = Field(default="", max_length=200)


class FirmwareStatus(Message):
    """How far the release ``number`` of a kind has come at a gateway; ``refused`` says why it did not take it."""

    kind: Name
    number: Amount
    version: Amount
    stage: Literal["canary", "ward", "withdrawn", "refused"]
    canary: BoardId | None = None
    failed: tuple[BoardId, ...] = Field(default=(), max_length=4096)
    refused: str = Field(default="", max_length=200)


class LinkStatus(Message):
    """The optical link as the gateway's key-management entity reports it.

    ``rekey_s`` is the recommended time between two rekeyings, None while the entity does not answer.
    """

    state: str = Field(max_length=200)
    qber: float | None = Field(default=None, ge=0, le=1, allow_inf_nan=False)
    stored_keys: Amount
    bits_produced: Amount
    bits_consumed: Amount
    threat_level: Literal["normal", "elevated", "high"] = "normal"
    rekey_s: float | None = Field(default=None, gt=0, le=86_400, allow_inf_nan=False)


class Status(Message):
    """Gateway to server, sealed, every few seconds: heartbeat. ``audit``: why it refused a head of the audit log."""

    type: Literal["status"] = "status"
    now_ms: TimeMs
    boards: tuple[BoardStatus, ...] = Field(max_length=4096)
    link: LinkStatus | None
    refused: dict[str, Amount] = Field(max_length=256)
    spool: Amount
    audit: str = Field(default="", max_length=200)
    model: ModelStatus | None = None
    firmware: tuple[FirmwareStatus, ...] = Field(default=(), max_length=64)
    bedside: tuple[BedsideStatus, ...] = Field(default=(), max_length=16)


Signed = Annotated[
    SessionOpen
    | SessionUnknown
    | Directory
    | RoundOpen
    | Ready
    | RoundStart
    | PairOffer
    | PairWanted
    | Count
    | Partial
    | CellVoid
    | ModelRelease
    | BedsideRelease
    | FirmwareRelease
    | CareRevoke,
    Field(discriminator="type"),
]
Sealed = Annotated[
    Welcome
    | Ack
    | CareGrant
    | CareRecord
    | WaveWatch
    | WaveRecord
    | Findings
    | ExplainedBeat
    | AlertReport
    | Status
    | AuditHead
    | AuditKept,
    Field(discriminator="type"),
]
