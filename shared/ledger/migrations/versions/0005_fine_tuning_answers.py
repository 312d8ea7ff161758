"""fine-tuning answers"""

import sqlalchemy as sa
from alembic import op

revision = '0005'
down_revision = '0004'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column('fine_tuning_jobs', sa.Column('asked_at', sa.DateTime(timezone=True), nullable=True))
    op.add_column('fine_tuning_jobs', sa.Column('error', sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column('fine_tuning_jobs', 'error')
    op.drop_column('fine_tuning_jobs', 'asked_at')
