"""Charges of rounds that have ended and of whom nothing came, in case that something still does."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """What lapsed until now is not known any more."""
    op.create_table(
        "lapsed_charges",
        sa.Column("round", sa.BigInteger(), nullable=False),
        sa.Column("stream", sa.Integer(), nullable=False),
        sa.Column("patient", sa.String(length=32), nullable=False),
        sa.Column("period", sa.BigInteger(), nullable=False),
        sa.Column("rho", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("round", "stream", "patient"),
    )


def downgrade() -> None:
    """Forget them: what comes late is then charged to nobody."""
    op.drop_table("lapsed_charges")
