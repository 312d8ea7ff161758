"""quarantine digest"""

import sqlalchemy as sa
from alembic import op

revision = '0007'
down_revision = '0006'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column('lineage_quarantine', sa.Column('digest', sa.String(length=64), nullable=True))
    op.create_unique_constraint('lineage_quarantine_spool_digest_key', 'lineage_quarantine', ['spool', 'digest'])


def downgrade() -> None:
    op.drop_constraint('lineage_quarantine_spool_digest_key', 'lineage_quarantine', type_='unique')
    op.drop_column('lineage_quarantine', 'digest')
