"""The privacy account; what consents are for; how many boards each board was told its patient wears."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add two tables and two columns; boards and consents that are there keep what they meant until now."""
    op.add_column("boards", sa.Column("patient_boards", sa.Integer(), nullable=False, server_default="1"))
    op.add_column("consents", sa.Column("purpose", sa.String(length=16), nullable=False, server_default="care"))
    op.create_table(
        "charges",
        sa.Column("round", sa.BigInteger(), nullable=False),
        sa.Column("stream", sa.Integer(), nullable=False),
        sa.Column("patient", sa.String(length=32), nullable=False),
        sa.Column("period", sa.BigInteger(), nullable=False),
        sa.Column("rho", sa.Float(), nullable=True),
        sa.Column("received", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["round"], ["rounds.number"]),
        sa.PrimaryKeyConstraint("round", "stream", "patient"),
    )
    op.create_table(
        "spendings",
        sa.Column("patient", sa.String(length=32), nullable=False),
        sa.Column("purpose", sa.String(length=16), nullable=False),
        sa.Column("period", sa.BigInteger(), nullable=False),
        sa.Column("rho", sa.Float(), nullable=False),
        sa.Column("rounds", sa.BigInteger(), nullable=False),
        sa.Column("unbounded", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("patient", "purpose", "period"),
    )


def downgrade() -> None:
    """Drop what was added."""
    op.drop_table("spendings")
    op.drop_table("charges")
    op.drop_column("consents", "purpose")
    op.drop_column("boards", "patient_boards")
