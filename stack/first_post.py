"""The first post of a fresh system: asked of the running front end, and shown with its sources.

It knows the front end's HTTP interface, and neither models nor knowledge.
"""

from typing import Any

import httpx

from shared.settings import get_settings
from shared.voice import load_voice
from stack.config import StackConfig
from stack.first_run import FirstRunError
from stack.report import Report
from stack.stamps import get_stamp

WRITE_SECONDS = 300


def write_first_post(config: StackConfig, report: Report) -> dict[str, Any] | None:
    """Ask for a post where there is none yet; None where there is one."""
    record = get_stamp(config.state_dir, "first-post", "ledger")
    if record.is_file():
        return None
    topic = load_voice(config.content_dir / "voice.toml").topics.suggested[0]
    url = f"http://127.0.0.1:{config.ports['SERVING_PORT']}"
    auth = (get_settings().admin_user, config.secret("admin_password"))
    try:
        with httpx.Client(base_url=url, auth=auth, trust_env=False, timeout=WRITE_SECONDS) as client:
            post = None
            if not client.get("/api/posts", params={"limit": 1}).raise_for_status().json():
                report.say(f"asking {url} for a first post on: {topic}")
                answer = client.post("/api/posts", json={"topic": topic, "model": "champion"})
                post = answer.raise_for_status().json()
    except httpx.HTTPStatusError as error:
        raise FirstRunError(
            f"the front end answered {error.response.status_code} when asked for a post: {error.response.text[:300]}. "
            "To do: make logs S=serving"
        ) from error
    except httpx.HTTPError as error:
        raise FirstRunError(
            f"the front end did not answer ({type(error).__name__}). To do: make logs S=serving"
        ) from error
    record.touch()
    return post


def describe_post(post: dict[str, Any]) -> str:
    """The post with its model and sources, for people."""
    model = post["model"]
    if model.get("version"):
        author = f"{model['name']} version {model['version']}"
    else:
        author = f"the untrained base model ({model['name']}), because there is no champion yet,"
    lines = [
        "",
        *post["text"].splitlines(),
        "",
        f"  written by {author} in {post['seconds']:.1f} s from:",
    ]
    lines += [
        f"  - {source['title']}  {source['uri']}  ({source['score']:.2f})" for source in post["sources"]
    ]
    return "\n".join(
        [*lines, f"  post {post['post_id']}: .venv/bin/ghostwriter audit post {post['post_id']}", ""]
    )
