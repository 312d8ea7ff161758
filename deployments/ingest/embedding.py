"""The vector of every text, made once a model: what is in the ledger is not asked for again.

It knows no document and no store.
"""

import hashlib
import math
import sys
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import bindparam, text, update
from sqlalchemy.orm import Session, sessionmaker

from shared.ledger.models import TextVector, utc_now
from shared.llm.port import Llm, LlmError

TEXTS_A_REQUEST = 64  # what a provider is asked for at once, and what a kill may cost
WAIT_SECONDS = 600  # at most, for another task that embeds the same text at the same time


class WrongVectorsError(LlmError):
    """The provider's answer can't be what was asked for; nothing of it was kept."""


@dataclass(frozen=True)
class Embedded:
    """A vector per text, in order, and how many texts the provider was asked for."""

    vectors: "list[array[float]]"
    asked: int


def join_text(title: str, heading: str, passage: str) -> str:
    """What is embedded of a passage: always the same for the same three."""
    return "\n".join(filter(None, (title, heading, passage)))


def embed_texts(sessions: sessionmaker[Session], llm: Llm, model: str, texts: Sequence[str]) -> Embedded:
    """The texts' vectors by this model. Raises LlmError, WrongVectorsError.

    Each request is a transaction that first claims its texts in the ledger: who wants one of them, too, waits until it
    is there, or takes over when the first died.
    """
    digests = [digest_text(one) for one in texts]
    wanted = dict(zip(digests, texts, strict=True))
    known = _read_vectors(sessions, model, list(wanted))
    missing = [digest for digest in wanted if digest not in known]
    # Texts of one length cost the provider least together.
    missing.sort(key=lambda digest: (len(wanted[digest]), digest))
    asked = 0
    for start in range(0, len(missing), TEXTS_A_REQUEST):
        part = missing[start : start + TEXTS_A_REQUEST]
        asked += _embed_part(sessions, llm, model, {digest: wanted[digest] for digest in part})
    known |= _read_vectors(sessions, model, missing)
    return Embedded([known[digest] for digest in digests], asked)


def digest_text(one: str) -> bytes:
    """Names a text: sha256 of its UTF-8."""
    return hashlib.sha256(one.encode()).digest()


def pack_vector(vector: Sequence[float]) -> bytes:
    """As the ledger keeps it: float32, little-endian."""
    packed = array("f", vector)
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes()


def unpack_vector(packed: bytes) -> "array[float]":
    """The vector again."""
    vector = array("f")
    vector.frombytes(packed)
    if sys.byteorder == "big":
        vector.byteswap()
    return vector


def _read_vectors(
    sessions: sessionmaker[Session], model: str, digests: Sequence[bytes]
) -> "dict[bytes, array[float]]":
    if not digests:
        return {}
    query = text(
        "SELECT text_digest, vector FROM text_vectors WHERE model = :model AND text_digest = ANY(:digests)"
    )
    with sessions() as session:
        rows = session.execute(query, {"model": model, "digests": list(digests)})
        return {bytes(digest): unpack_vector(bytes(vector)) for digest, vector in rows}


def _embed_part(sessions: sessionmaker[Session], llm: Llm, model: str, wanted: Mapping[bytes, str]) -> int:
    """One request for what nobody else has made or is making; how many texts it asked for."""
    with sessions.begin() as session:
        claimed = _claim(session, model, sorted(wanted))
        if claimed:
            vectors = llm.embed(model, [wanted[digest] for digest in claimed])
            _check(vectors, len(claimed), _read_dimensions(session, model))
            session.connection().execute(
                update(TextVector)
                .where(TextVector.model == model, TextVector.text_digest == bindparam("digest"))
                .values(vector=bindparam("made")),
                [
                    {"digest": digest, "made": pack_vector(vector)}
                    for digest, vector in zip(claimed, vectors, strict=True)
                ],
            )
        return len(claimed)


def _claim(session: Session, model: str, digests: Sequence[bytes]) -> list[bytes]:
    """Those that this transaction is the first to make; in one order for all, so that no two wait for each other."""
    session.execute(text(f"SET LOCAL statement_timeout = '{WAIT_SECONDS}s'"))
    rows = session.execute(
        text(
            """INSERT INTO text_vectors (model, text_digest, vector, created_at)
               SELECT :model, digest, '', :now FROM unnest(cast(:digests AS bytea[])) AS digest ORDER BY digest
               ON CONFLICT DO NOTHING RETURNING text_digest"""
        ),
        {"model": model, "digests": list(digests), "now": utc_now()},
    )
    claimed = {bytes(digest) for (digest,) in rows}
    return [digest for digest in digests if digest in claimed]


def _read_dimensions(session: Session, model: str) -> int | None:
    """Of the vectors that this model gave before."""
    query = "SELECT octet_length(vector) / 4 FROM text_vectors WHERE model = :model AND vector <> '' LIMIT 1"
    return session.execute(text(query), {"model": model}).scalar()


def _check(vectors: Sequence[Sequence[float]], wanted: int, dimensions: int | None) -> None:
    if len(vectors) != wanted:
        raise WrongVectorsError(f"The provider gave {len(vectors)} vectors for {wanted} texts: try again.")
    for vector in vectors:
        if dimensions is not None and len(vector) != dimensions:
            raise WrongVectorsError(
                f"The provider gave a vector of {len(vector)} dimensions where this model gave {dimensions} before: "
                "another model needs another name, and `ghostwriter knowledge reembed`."
            )
        dimensions = len(vector)
        if not any(vector) or not all(map(math.isfinite, vector)):
            raise WrongVectorsError(
                "The provider gave a vector of zeros, or of what is no number: try again."
            )
