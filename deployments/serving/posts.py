"""Posts and their feedback in the ledger: keep, list, show, rate.

It knows no model and no page.
"""

from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session, selectinload

from deployments.serving.errors import BadRequest, NotFound
from shared.ledger.models import Feedback, Post
from shared.times import write_time

RATINGS = (1, -1)


def get_post(session: Session, post_id: str) -> Post:
    """The post with its sources. Raises NotFound."""
    post = session.get(Post, post_id, options=[selectinload(Post.sources)])
    if post is None:
        raise NotFound(
            f"There is no post {post_id!r}. The Posts page and GET /api/posts list the posts there are."
        )
    return post


def list_posts(session: Session, limit: int = 50) -> list[dict[str, Any]]:
    """The newest posts first, each with the sum of its ratings."""
    latest = select(func.max(Feedback.id)).group_by(Feedback.post_id, Feedback.author)
    rating = (
        select(func.coalesce(func.sum(Feedback.rating), 0))
        .where(Feedback.post_id == Post.id, Feedback.id.in_(latest))
        .scalar_subquery()
    )
    rows = session.execute(select(Post, rating).order_by(Post.created_at.desc()).limit(limit))
    return [
        {
            "post_id": post.id,
            "created": write_time(post.created_at),
            "topic": post.topic,
            "text": post.text,
            "model": describe_model(post),
            "rating": int(total),
            "seconds": post.seconds,
            "author": post.author,
        }
        for post, total in rows
    ]


def record_feedback(session: Session, post_id: str, rating: int, author: str) -> None:
    """Keep a thumb up (1) or down (-1). Raises NotFound and BadRequest."""
    if rating not in RATINGS:
        raise BadRequest(f"A rating is 1 (thumb up) or -1 (thumb down), not {rating}.")
    get_post(session, post_id)
    session.add(Feedback(post_id=post_id, rating=rating, author=author))


def describe_model(post: Post) -> dict[str, Any]:
    """The model of a post as answers show it."""
    return {"name": post.model_name, "version": post.model_version, "alias": post.model_alias}


def describe_post(post: Post) -> dict[str, Any]:
    """A post as `POST /api/posts` answers it."""
    return {
        "post_id": post.id,
        "text": post.text,
        "model": describe_model(post),
        "prompt_version": post.prompt_version,
        "sources": [
            {"uri": item.uri, "title": item.title, "chunk_id": item.chunk_id, "score": item.score}
            for item in post.sources
        ],
        "seconds": post.seconds,
    }
