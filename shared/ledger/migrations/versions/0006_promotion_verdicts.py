"""promotion verdicts"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = '0006'
down_revision = '0005'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('promotion_verdicts',
    sa.Column('key', sa.String(length=64), nullable=False),
    sa.Column('holdout', sa.String(length=64), nullable=False),
    sa.Column('challenger', sa.String(length=20), nullable=False),
    sa.Column('rival', sa.String(length=20), nullable=True),
    sa.Column('texts', sa.JSON().with_variant(postgresql.JSONB(astext_type=sa.Text()), 'postgresql'), nullable=False),
    sa.Column('number', sa.Integer(), nullable=True),
    sa.Column('promote', sa.Boolean(), nullable=True),
    sa.Column('created_at', sa.DateTime(timezone=True), nullable=False),
    sa.PrimaryKeyConstraint('key')
    )
    op.create_index(op.f('ix_promotion_verdicts_holdout'), 'promotion_verdicts', ['holdout'], unique=False)


def downgrade() -> None:
    op.drop_index(op.f('ix_promotion_verdicts_holdout'), table_name='promotion_verdicts')
    op.drop_table('promotion_verdicts')
