"""Versions of all lines of models, with origin, state and card; the board's models move there."""

import hashlib

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def _content_digest(blob: bytes) -> bytes:
    """SHA-256 of a board's model as version 0: the version is a u32 at byte 4."""
    return hashlib.sha256(blob[:4] + bytes(4) + blob[8:]).digest()


def upgrade() -> None:
    """Move what was released until now: only the newest may still be on its way, and its gateways tell of it."""
    op.create_table(
        "model_versions",
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("version", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("origin", sa.String(length=16), nullable=False),
        sa.Column("parent", sa.BigInteger(), nullable=False),
        sa.Column("began", sa.BigInteger(), nullable=False),
        sa.Column("round", sa.BigInteger(), nullable=False),
        sa.Column("rounds_trained", sa.BigInteger(), nullable=False),
        sa.Column("by", sa.String(length=64), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("card", sa.Text(), nullable=False),
        sa.Column("blob", sa.LargeBinary(), nullable=False),
        sa.Column("envelope", sa.LargeBinary(), nullable=False),
        sa.Column("canary", sa.String(length=32), nullable=False),
        sa.Column("drift_windows", sa.Integer(), nullable=False),
        sa.Column("order_digest", sa.LargeBinary(), nullable=True),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("changed_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", "version"),
        sa.UniqueConstraint("order_digest"),
    )
    connection = op.get_bind()
    rows = connection.execute(sa.text("SELECT version, round, blob, envelope, created_ms FROM models ORDER BY version"))
    released = rows.all()
    for row in released:
        connection.execute(
            sa.text(
                "INSERT INTO model_versions VALUES ('board', :version, :state, :origin, :parent, 1, :round, :parent, "
                "'', '', :digest, '{}', :blob, :envelope, '', 0, NULL, :created_ms, :created_ms)"
            ),
            {
                **row._mapping,
                "state": "prepared" if row is released[-1] else "released",
                "origin": "federated" if row.round else "initial",
                "parent": row.version - 1,
                "digest": _content_digest(row.blob),
            },
        )
    op.drop_table("models")


def downgrade() -> None:
    """Put the board's models back; what else there was is lost."""
    op.create_table(
        "models",
        sa.Column("version", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("round", sa.BigInteger(), nullable=False),
        sa.Column("blob", sa.LargeBinary(), nullable=False),
        sa.Column("envelope", sa.LargeBinary(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("version"),
    )
    op.execute(
        "INSERT INTO models SELECT version, round, blob, envelope, created_ms FROM model_versions WHERE name = 'board'"
    )
    op.drop_table("model_versions")
