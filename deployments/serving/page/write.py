"""The page that writes: a chat on the left; sources, picture, thumbs and audit of the last post on the right.

It knows no model and no store; the desk does.
"""

import logging
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import gradio as gr

from deployments.serving.audit import audit_post
from deployments.serving.desk import Desk
from deployments.serving.errors import NothingAnswers, ServingError
from deployments.serving.models import MODEL_CHOICES
from deployments.serving.page import fragments
from deployments.serving.page.problems import explained, show_problem
from deployments.serving.posts import describe_model, record_feedback
from deployments.serving.writer import MAX_TOPIC_CHARACTERS, Finished, Piece, Sources
from shared.prompt import PROMPT_VERSION

log = logging.getLogger(__name__)

_MODEL_LABELS = {
    "champion": "Champion",
    "challenger": "Challenger",
    "base": "Base model",
}
_MODEL_HINT = "Or type a version number. While there is no champion, the base model writes."
_ICONS = Path(__file__).parent.parent / "static"
KEPT_MESSAGES = 100  # of a chat; the Posts page has every post
_ON_LOAD = """
element.addEventListener("click", async (event) => {
  const button = event.target.closest(".gw-copy");
  if (!button) return;
  const said = button.parentElement.querySelector(".gw-said");
  try { await navigator.clipboard.writeText(said.textContent); button.textContent = "Copied"; }
  catch { getSelection().selectAllChildren(said); }  // no clipboard over plain HTTP: at least it is selected
});
"""

Message = tuple[str, str]  # who, and what: "user" or "assistant", and plain text


def build_write_tab(desk: Desk) -> None:
    """Lay out the page and tie its events; call inside a Tab."""
    # The chat is kept here and only shown on the page: what a browser sends back as its chat is never read.
    # It is no gr.Chatbot: that one obeys HTML in a text, also where it is told to leave Markdown alone.
    history: gr.State = gr.State([])
    post_id, topic_of_post, unanswered = gr.State(""), gr.State(""), gr.State("")
    with gr.Row(equal_height=False):
        with gr.Column(scale=3, min_width=360):
            chat = gr.HTML(
                fragments.show_chat([]), js_on_load=_ON_LOAD, autoscroll=True, min_height=430, max_height=430,
                elem_id="gw-chat", elem_classes="gw-bare",
            )  # fmt: skip
            with gr.Row(equal_height=True):
                topic = gr.Textbox(
                    show_label=False, placeholder="A topic in a few words",
                    scale=5, min_width=200, autofocus=True, elem_id="gw-topic", lines=1, max_lines=1,
                )  # fmt: skip
                write = gr.Button("Write", variant="primary", scale=1, min_width=90, elem_id="gw-write")
                stop = gr.Button(
                    "Stop", variant="stop", scale=1, min_width=90, visible=False, elem_id="gw-stop"
                )
            anyway = gr.Button("Write anyway", size="sm", visible=False, elem_id="gw-anyway")
            gr.Examples(
                [[item] for item in desk.read_voice().topics.suggested], topic, label="Suggested topics"
            )
            model = gr.Dropdown(
                [(_MODEL_LABELS[name], name) for name in MODEL_CHOICES], value=MODEL_CHOICES[0], label="Written by",
                info=_MODEL_HINT, allow_custom_value=True, elem_id="gw-model",
            )  # fmt: skip
        with gr.Column(scale=2, min_width=320):
            # Always there: a component shown for the first time in mid-stream may lose the update that follows.
            line = gr.HTML(elem_id="gw-line", elem_classes="gw-bare")
            with gr.Row(visible=False, elem_id="gw-actions") as actions:
                up = gr.Button(
                    "Good", icon=_ICONS / "thumbs-up.svg", size="sm", min_width=80, elem_id="gw-up"
                )
                down = gr.Button(
                    "Poor", icon=_ICONS / "thumbs-down.svg", size="sm", min_width=80, elem_id="gw-down"
                )
                draw = gr.Button(
                    "Picture", icon=_ICONS / "picture.svg", size="sm", min_width=80, elem_id="gw-draw"
                )
            thanks = gr.HTML(elem_id="gw-thanks", elem_classes="gw-bare")
            gr.Markdown("#### Sources")
            sources = gr.HTML(fragments.show_sources([]), elem_id="gw-sources", elem_classes="gw-bare")
            picture = gr.HTML(visible=False, elem_id="gw-picture", elem_classes="gw-bare")
            with gr.Accordion(
                "Where this post comes from", open=False, visible=False, elem_id="gw-audit"
            ) as chain:
                audit = gr.HTML()

    shown = [
        chat,
        history,
        sources,
        line,
        post_id,
        topic_of_post,
        actions,
        thanks,
        picture,
        chain,
        audit,
        write,
        stop,
        topic,
        anyway,
        unanswered,
    ]

    def show(*messages: Message) -> dict[Any, Any]:
        return {chat: fragments.show_chat(messages), history: list(messages)}

    def run(
        asked: str,
        choice: str,
        before: list[Message],
        request: gr.Request,
        allow_unsupported: bool = False,
    ) -> Iterator[dict[Any, Any]]:
        question = ("user", asked.strip()[:MAX_TOPIC_CHARACTERS] or "(no topic)")
        messages = [*before[1 - KEPT_MESSAGES :], question]
        yield {
            **show(*messages, _answer("Looking for sources …")),
            sources: fragments.show_sources([]), post_id: "",
            line: "", thanks: "",
            actions: gr.update(visible=False), picture: gr.update(visible=False, value=""),
            chain: gr.update(visible=False, open=False), audit: "", topic: "",
            write: gr.update(visible=False), stop: gr.update(visible=True),
            anyway: gr.update(visible=False), unanswered: "",
        }  # fmt: skip
        buttons = {write: gr.update(visible=True), stop: gr.update(visible=False)}
        hide_line = {line: ""}
        text = ""
        try:
            for event in desk.writer.write(
                asked,
                choice or MODEL_CHOICES[0],
                request.username or "admin",
                allow_unsupported=allow_unsupported,
            ):
                match event:
                    case Sources():
                        chosen = event.model
                        described = {"version": chosen.version, "alias": chosen.alias}
                        note = fragments.show_note(chosen.note) if chosen.note else ""
                        cards = [
                            {
                                "title": h.chunk.title,
                                "uri": h.chunk.uri,
                                "score": h.score,
                                "text": h.chunk.text,
                            }
                            for h in event.chunks
                        ]
                        yield {
                            **show(*messages, _answer("Reading, then writing …")),
                            sources: fragments.show_sources(cards),
                            line: fragments.show_model(described, PROMPT_VERSION) + note,
                        }
                    case Piece():
                        text += event.text
                        yield show(*messages, _answer(text))
                    case Finished():
                        post = event.post
                        note = fragments.show_note(event.model.note) if event.model.note else ""
                        about = fragments.show_model(
                            describe_model(post), post.prompt_version, post.seconds, post.id
                        )
                        yield {
                            **show(*messages, _answer(post.text)), line: about + note,
                            post_id: post.id,
                            topic_of_post: post.topic, actions: gr.update(visible=True),
                            chain: gr.update(visible=True), **buttons,
                        }  # fmt: skip
        except NothingAnswers as error:
            yield {
                **show(*messages, _answer(f"Not written. {error}")), **hide_line, **buttons,
                anyway: gr.update(visible=True), unanswered: asked,
            }  # fmt: skip
        except ServingError as error:
            yield {**show(*messages, _answer(f"Not written. {error}")), **hide_line, **buttons}
        except Exception:
            log.exception("a post failed in a way nobody foresaw")
            message = (
                "Not written. Something went wrong that nobody foresaw; the log of serving has the details."
            )
            yield {**show(*messages, _answer(message)), **hide_line, **buttons}

    def run_anyway(
        asked: str, choice: str, before: list[Message], request: gr.Request
    ) -> Iterator[dict[Any, Any]]:
        yield from run(asked, choice, before, request, allow_unsupported=True)

    def stopped(messages: list[Message]) -> dict[Any, Any]:
        return {
            **show(*messages, _answer("Stopped; nothing was recorded.")),
            write: gr.update(visible=True),
            stop: gr.update(visible=False),
            line: "",
        }

    def rate(identifier: str, rating: int, request: gr.Request) -> Any:
        with explained(), desk.sessions.begin() as session:
            record_feedback(session, identifier, rating, request.username or "admin")
        name = "thumb up" if rating > 0 else "thumb down"
        return fragments.show_note(f"Thank you: {name} recorded.")

    def paint(subject: str) -> Any:
        with explained():
            drawn = desk.draw_picture(subject)
        try:
            return gr.update(value=fragments.show_picture(_read_png(drawn)), visible=True)
        except ValueError as error:
            raise show_problem(str(error)) from error

    def explain(identifier: str) -> str:
        with explained(), desk.sessions() as session:
            return fragments.show_audit(audit_post(session, desk.registry, identifier))

    def thumb_up(identifier: str, request: gr.Request) -> Any:
        return rate(identifier, 1, request)

    def thumb_down(identifier: str, request: gr.Request) -> Any:
        return rate(identifier, -1, request)

    writing = gr.on(
        [write.click, topic.submit], run, [topic, model, history], shown, concurrency_limit=4, show_progress="hidden",
        api_visibility="private",
    )  # fmt: skip
    writing_anyway = anyway.click(
        run_anyway, [unanswered, model, history], shown, concurrency_limit=4, show_progress="hidden",
        api_visibility="private",
    )  # fmt: skip
    # Only when the writing has ended: its last update would else come after, and hide what this one says.
    stop.click(None, cancels=[writing, writing_anyway], api_visibility="private").then(
        stopped, history, [chat, history, write, stop, line], api_visibility="private"
    )
    up.click(thumb_up, post_id, thanks, api_visibility="private")
    down.click(thumb_down, post_id, thanks, api_visibility="private")
    draw.click(paint, topic_of_post, picture, concurrency_limit=2, api_visibility="private")
    chain.expand(explain, post_id, audit, api_visibility="private")


def _answer(text: str) -> Message:
    return "assistant", text


def _read_png(drawn: bytes) -> bytes:
    """The picture as PNG, whatever the image model sent. Raises ValueError for what is no picture."""
    from PIL import Image, UnidentifiedImageError

    out = BytesIO()
    try:
        Image.open(BytesIO(drawn)).convert("RGB").save(out, "PNG")
    except (UnidentifiedImageError, OSError) as error:
        raise ValueError(f"The image model answered with {len(drawn)} bytes that are no picture.") from error
    return out.getvalue()
