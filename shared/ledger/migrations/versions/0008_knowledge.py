"""knowledge: sources, syncs, recipes, texts, vectors, collections"""

import sqlalchemy as sa
from alembic import op

from shared.ledger.models import BigId, Json, UtcDateTime

revision = '0008'
down_revision = '0007'
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name, kind, default in (
        ('recipe', sa.String(length=100), ''),
        ('media_type', sa.String(length=200), ''),
        ('language', sa.String(length=10), ''),
        ('author', sa.Text(), ''),
        ('place', sa.Text(), ''),
    ):
        op.add_column('document_versions', sa.Column(name, kind, nullable=False, server_default=default))
    op.add_column('document_versions', sa.Column('dated', sa.Date(), nullable=True))
    op.add_column('document_versions', sa.Column('notes', Json, nullable=True))
    op.add_column('document_versions', sa.Column('moved_from', sa.String(length=1024), nullable=True))
    op.add_column(
        'knowledge_problems', sa.Column('fingerprint', sa.String(length=200), nullable=False, server_default='')
    )
    op.add_column('pending_writes', sa.Column('recipe', sa.String(length=100), nullable=False, server_default=''))
    op.drop_constraint('pending_writes_pkey', 'pending_writes', type_='primary')
    op.create_primary_key('pending_writes_pkey', 'pending_writes', ['uri', 'content_hash', 'recipe'])
    op.create_table(
        'document_texts',
        sa.Column('content_hash', sa.String(length=64), nullable=False),
        sa.Column('extractor', sa.String(length=60), nullable=False),
        sa.Column('text', sa.Text(), nullable=False),
        sa.Column('markdown', sa.Boolean(), nullable=False),
        sa.Column('title', sa.Text(), nullable=False),
        sa.Column('pages', Json, nullable=False),
        sa.Column('created_at', UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint('content_hash', 'extractor'),
    )
    op.create_table(
        'document_references',
        sa.Column('uri', sa.String(length=1024), nullable=False),
        sa.Column('source', sa.String(length=200), nullable=False),
        sa.Column('key', sa.Text(), nullable=False),
        sa.Column('fingerprint', sa.String(length=200), nullable=False),
        sa.Column('content_hash', sa.String(length=64), nullable=False),
        sa.Column('checked_at', UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint('uri'),
    )
    op.create_index('ix_document_references_source', 'document_references', ['source'])
    op.create_table(
        'text_vectors',
        sa.Column('model', sa.String(length=200), nullable=False),
        sa.Column('text_digest', sa.LargeBinary(length=32), nullable=False),
        sa.Column('vector', sa.LargeBinary(), nullable=False),
        sa.Column('created_at', UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint('model', 'text_digest'),
    )
    op.create_table(
        'knowledge_sources',
        sa.Column('name', sa.String(length=200), nullable=False),
        sa.Column('connector', sa.String(length=40), nullable=False),
        sa.Column('options', Json, nullable=False),
        sa.Column('state', sa.String(length=20), nullable=False),
        sa.Column('error', sa.Text(), nullable=True),
        sa.Column('documents', sa.Integer(), nullable=False),
        sa.Column('listed_at', UtcDateTime(), nullable=True),
        sa.Column('seconds', sa.Float(), nullable=True),
        sa.Column('run', sa.String(length=250), nullable=False),
        sa.PrimaryKeyConstraint('name'),
    )
    op.create_table(
        'knowledge_syncs',
        sa.Column('run', sa.String(length=250), nullable=False),
        sa.Column('reason', sa.Text(), nullable=False),
        sa.Column('started_at', UtcDateTime(), nullable=False),
        sa.Column('ended_at', UtcDateTime(), nullable=True),
        sa.Column('outcome', sa.String(length=20), nullable=False),
        sa.Column('counts', Json, nullable=False),
        sa.Column('sources', Json, nullable=False),
        sa.Column('seconds', Json, nullable=False),
        sa.PrimaryKeyConstraint('run'),
    )
    op.create_table(
        'knowledge_collections',
        sa.Column('id', BigId, nullable=False),
        sa.Column('name', sa.String(length=100), nullable=False),
        sa.Column('embedding_model', sa.String(length=200), nullable=False),
        sa.Column('dimensions', sa.Integer(), nullable=False),
        sa.Column('splitting', sa.String(length=40), nullable=False),
        sa.Column('state', sa.String(length=20), nullable=False),
        sa.Column('reason', sa.Text(), nullable=False),
        sa.Column('documents', sa.Integer(), nullable=False),
        sa.Column('chunks', sa.Integer(), nullable=False),
        sa.Column('quality', Json, nullable=True),
        sa.Column('run', sa.String(length=250), nullable=False),
        sa.Column('created_at', UtcDateTime(), nullable=False),
        sa.Column('served_at', UtcDateTime(), nullable=True),
        sa.Column('ended_at', UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint('id'),
        sa.UniqueConstraint('name'),
    )
    op.create_table(
        'collection_documents',
        sa.Column('collection', BigId, nullable=False),
        sa.Column('uri', sa.String(length=1024), nullable=False),
        sa.Column('content_hash', sa.String(length=64), nullable=False),
        sa.Column('recipe', sa.String(length=100), nullable=False),
        sa.Column('chunks', sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(['collection'], ['knowledge_collections.id'], ondelete='CASCADE'),
        sa.PrimaryKeyConstraint('collection', 'uri'),
    )


def downgrade() -> None:
    for table in (
        'collection_documents', 'knowledge_collections', 'knowledge_syncs', 'knowledge_sources', 'text_vectors',
        'document_references', 'document_texts',
    ):
        op.drop_table(table)
    op.execute("DELETE FROM pending_writes WHERE recipe <> ''")
    op.drop_constraint('pending_writes_pkey', 'pending_writes', type_='primary')
    op.create_primary_key('pending_writes_pkey', 'pending_writes', ['uri', 'content_hash'])
    op.drop_column('pending_writes', 'recipe')
    op.drop_column('knowledge_problems', 'fingerprint')
    for name in ('moved_from', 'notes', 'dated', 'place', 'author', 'language', 'media_type', 'recipe'):
        op.drop_column('document_versions', name)
