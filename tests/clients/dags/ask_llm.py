"""A Dag as a user writes it: `@task.llm` from the common.ai provider, and OpenAIHook beside it."""

import json
import os
import tempfile
from typing import Any, Literal

from airflow.sdk import dag, task
from pydantic import BaseModel

CHAT, EMBEDDING = os.environ["CLIENTS_CHAT_MODEL"], os.environ["CLIENTS_EMBEDDING_MODEL"]
SETTINGS: Any = {"temperature": 0.0, "max_tokens": 160}


class Report(BaseModel):
    """Reports the weather."""

    sky: Literal["sun", "rain"]
    cold: bool


@dag(schedule=None)
def ask_llm() -> None:
    """Its results are what the test reads."""

    @task.llm(llm_conn_id="ghostwriter_llm", system_prompt="Be brief.", model_settings={"max_tokens": 16})
    def write() -> str:
        return "One, two, three?"

    @task.llm(
        llm_conn_id="ghostwriter_llm", output_type=Report, serialize_output=True, model_settings=SETTINGS
    )
    def report() -> str:
        return "It rains, and it is cold."

    @task
    def use_hook() -> dict[str, Any]:
        from airflow.providers.openai.hooks.openai import OpenAIHook

        hook = OpenAIHook("openai_ghostwriter")
        vectors = hook.create_embeddings(["A cat.", "A bank."], model=EMBEDDING)
        (choice,) = hook.create_chat_completion(
            [{"role": "user", "content": "One, two, three?"}], model=CHAT, max_tokens=8
        )
        answer = hook.create_response("One, two, three?", model=CHAT, max_output_tokens=16)
        turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
        with tempfile.NamedTemporaryFile(suffix=".jsonl") as file:
            file.write((json.dumps({"messages": turns}) + "\n").encode() * 10)
            file.flush()
            uploaded = hook.upload_file(file.name, "fine-tune")
        job = hook.conn.fine_tuning.jobs.create(
            model=CHAT, training_file=uploaded.id, method={"type": "supervised"}
        )
        cancelled = hook.conn.fine_tuning.jobs.cancel(job.id)
        listed = uploaded.id in {file.id for file in hook.get_files()}
        hook.delete_file(uploaded.id)
        return {
            "connection": hook.test_connection()[0],
            "vectors": [len(vector) for vector in vectors],
            "chat": choice.message.content,
            "response": answer.output_text,
            "listed": listed,
            "job": cancelled.status,
        }

    write()
    report()
    use_hook()


ask_llm()
