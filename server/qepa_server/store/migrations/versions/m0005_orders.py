"""Every order of the release desk that was carried out."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Orders about models that were carried out until now are in ``model_versions``, which is asked first."""
    op.create_table(
        "orders",
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("subject", sa.String(length=64), nullable=False),
        sa.Column("signed_s", sa.BigInteger(), nullable=False),
        sa.Column("by", sa.String(length=32), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("digest"),
    )


def downgrade() -> None:
    """Forget them: each could then be carried out again, for the ten minutes that it holds."""
    op.drop_table("orders")
