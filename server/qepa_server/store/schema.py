"""Tables. Keys and end keys are sealed (vault.py); times are ms since the Unix epoch."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData()

settings = Table(
    "settings", metadata, Column("key", String(64), primary_key=True), Column("value", LargeBinary, nullable=False)
)

gateways = Table(
    "gateways",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("certificate", Text, nullable=False),
    Column("session_number", BigInteger, nullable=False),
    Column("session_digest", LargeBinary, nullable=False),
)

boards = Table(
    "boards",
    metadata,
    Column("board", BigInteger, primary_key=True, autoincrement=False),
    Column("patient", String(32), nullable=False),
    Column("gateway", String(32), nullable=False),
    Column("end_key", LargeBinary, nullable=False),
    Column("key_tag", LargeBinary, nullable=False, unique=True),
    Column("request_digest", LargeBinary, nullable=False),
    Column("enrolled_ms", BigInteger, nullable=False),
    # How many boards the dock told this one that its patient wears.
    Column("patient_boards", Integer, nullable=False, server_default="1"),
)

# Every request and key ever honoured: neither comes back by replay.
enrolments = Table(
    "enrolments",
    metadata,
    Column("request_digest", LargeBinary, primary_key=True),
    Column("board", BigInteger, nullable=False),
    Column("key_tag", LargeBinary, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
)

rounds = Table(
    "rounds",
    metadata,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("state", String(8), nullable=False),
    Column("reason", Text, nullable=False),
    Column("server_nonce", LargeBinary, nullable=False),
    Column("open_envelope", LargeBinary, nullable=False),
    Column("start_envelope", LargeBinary),
    Column("expected", Text, nullable=False),
    Column("opened_ms", BigInteger, nullable=False),
    Column("started_ms", BigInteger),
    Column("settled_ms", BigInteger),
    Column("latency_ms", BigInteger),
    Column("model_version", BigInteger),
)

readies = Table(
    "readies",
    metadata,
    Column("round", BigInteger, ForeignKey("rounds.number"), primary_key=True),
    Column("gateway", String(32), primary_key=True),
    Column("envelope", LargeBinary, nullable=False),
)

partials = Table(
    "partials",
    metadata,
    Column("round", BigInteger, ForeignKey("rounds.number"), primary_key=True),
    Column("cell", Integer, primary_key=True),
    Column("stream", Integer, primary_key=True),
    Column("gateway", String(32), primary_key=True),
    Column("envelope", LargeBinary, nullable=False),
)

# One row for each (round, cell, stream), written once: opened or void, never both, never again.
sums = Table(
    "sums",
    metadata,
    Column("round", BigInteger, ForeignKey("rounds.number"), primary_key=True),
    Column("cell", Integer, primary_key=True),
    Column("stream", Integer, primary_key=True),
    Column("state", String(8), nullable=False),
    Column("reason", Text, nullable=False),
    Column("gateways", Text, nullable=False),
    Column("boards", Text, nullable=False),
    Column("patients", Integer, nullable=False),
    Column("total", Text),
    Column("last_frame_ms", BigInteger),
)

# What a running round may cost each patient; it moves into ``spendings`` as the round ends. Without noise rho is null.
charges = Table(
    "charges",
    metadata,
    Column("round", BigInteger, ForeignKey("rounds.number"), primary_key=True),
    Column("stream", Integer, primary_key=True),
    Column("patient", String(32), primary_key=True),
    Column("period", BigInteger, nullable=False),
    Column("rho", Float),
    Column("received", Boolean, nullable=False),
)

# Of rounds that have ended, of whom nothing came: if something still does, it is charged after all.
lapsed_charges = Table(
    "lapsed_charges",
    metadata,
    Column("round", BigInteger, primary_key=True, autoincrement=False),
    Column("stream", Integer, primary_key=True, autoincrement=False),
    Column("patient", String(32), primary_key=True),
    Column("period", BigInteger, nullable=False),
    Column("rho", Float),
)

spendings = Table(
    "spendings",
    metadata,
    Column("patient", String(32), primary_key=True),
    Column("purpose", String(16), primary_key=True),
    Column("period", BigInteger, primary_key=True, autoincrement=False),
    Column("rho", Float, nullable=False),
    Column("rounds", BigInteger, nullable=False),
    Column("unbounded", BigInteger, nullable=False),
)

# One row for each version that any line of models ever had. ``digest`` tells contents apart whatever their version.
model_versions = Table(
    "model_versions",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("version", BigInteger, primary_key=True, autoincrement=False),
    Column("state", String(16), nullable=False),
    Column("origin", String(16), nullable=False),
    Column("parent", BigInteger, nullable=False),
    Column("began", BigInteger, nullable=False),
    Column("round", BigInteger, nullable=False),
    Column("rounds_trained", BigInteger, nullable=False),
    Column("by", String(64), nullable=False),
    Column("reason", Text, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("card", Text, nullable=False),
    Column("blob", LargeBinary, nullable=False),
    Column("envelope", LargeBinary, nullable=False),
    Column("canary", String(32), nullable=False),
    Column("drift_windows", Integer, nullable=False),
    Column("order_digest", LargeBinary, unique=True),
    Column("created_ms", BigInteger, nullable=False),
    Column("changed_ms", BigInteger, nullable=False),
)

# Every order of the release desk that was carried out, by the SHA-256 of what was signed: none is a second time.
orders = Table(
    "orders",
    metadata,
    Column("digest", LargeBinary, primary_key=True),
    Column("subject", String(64), nullable=False),
    Column("signed_s", BigInteger, nullable=False),
    Column("by", String(32), nullable=False),
    Column("at_ms", BigInteger, nullable=False),
)

consents = Table(
    "consents",
    metadata,
    Column("consent_id", LargeBinary, primary_key=True),
    Column("patient", String(32), nullable=False),
    Column("signed", Text, nullable=False),
    Column("not_before_s", BigInteger, nullable=False),
    Column("not_after_s", BigInteger, nullable=False),
    Column("withdrawn_ms", BigInteger),
    Column("purpose", String(16), nullable=False, server_default="care"),
)

consent_boards = Table(
    "consent_boards",
    metadata,
    Column("consent_id", LargeBinary, ForeignKey("consents.consent_id"), primary_key=True),
    Column("board", BigInteger, primary_key=True),
    Column("gateway", String(32), nullable=False),
)

alert_reports = Table(
    "alert_reports",
    metadata,
    Column("gateway", String(32), primary_key=True),
    Column("id", String(64), primary_key=True),
    Column("board", BigInteger, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("active", Boolean, nullable=False),
    Column("received_ms", BigInteger, nullable=False),
    Column("t_ms", BigInteger, nullable=False),
    Index("alert_order", "board", "kind", "received_ms"),
)

alarms = Table(
    "alarms",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("board", BigInteger, nullable=False),
    Column("patient", String(32), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("priority", String(16), nullable=False),
    Column("since_ms", BigInteger, nullable=False),
    Column("ended_ms", BigInteger),
    Column("acknowledged", Boolean, nullable=False),
)

audit = Table(
    "audit",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("event", String(64), nullable=False),
    Column("detail", Text, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    UniqueConstraint("hash"),
)

# Signatures over the log up to ``seq``: one for each transaction that added to it, by the certificate ``signer``.
audit_seals = Table(
    "audit_seals",
    metadata,
    Column("seq", Integer, ForeignKey("audit.seq"), primary_key=True, autoincrement=False),
    Column("signer", String(64), nullable=False),
    Column("signature", LargeBinary, nullable=False),
)

# Patients and gateways that have no part in sums, why, and who let them in again.
quarantines = Table(
    "quarantines",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("kind", String(8), nullable=False),
    Column("name", String(32), nullable=False),
    Column("since_ms", BigInteger, nullable=False),
    Column("round", BigInteger, nullable=False),
    Column("evidence", Text, nullable=False),
    Column("released_ms", BigInteger),
    Column("released_by", String(64)),
)


def is_key(number: int) -> bool:
    """Whether a row can have this number: SQLite refuses to look for one that is longer than 64 bits."""
    return 0 < number < 2**63
