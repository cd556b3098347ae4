"""Each alert asks what its board told of its kind within a day."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """An index: reports are kept for ever."""
    op.create_index("alert_order", "alert_reports", ["board", "kind", "received_ms"])


def downgrade() -> None:
    """Read all of them again."""
    op.drop_index("alert_order", "alert_reports")
