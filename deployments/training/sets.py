"""Training sets on disk: one folder per digest, written whole or not at all, never changed.

It knows no ledger and nothing of what the lines say.
"""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deployments.training.preparation import BuiltSet
from shared.examples import Split
from shared.json_lines import split_lines
from shared.llm.port import Message
from shared.prompt import read_topic


@dataclass(frozen=True, slots=True)
class HoldoutExample:
    """A prompt, and the post that the team wrote for it."""

    messages: list[Message]
    reference: str

    @property
    def topic(self) -> str:
        """The last line of the prompt, which names the topic."""
        return read_topic(self.messages)


def freeze_set(built: BuiltSet, folder: Path) -> Mapping[Split, Path]:
    """Write the set's files under `folder/<digest>/`; a set that is there already is left alone."""
    target = folder / built.digest
    if not target.is_dir():
        partial = folder / f".{built.digest}.{os.getpid()}"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        for split, content in built.files.items():
            (partial / f"{split}.jsonl").write_bytes(content)
        try:
            partial.rename(target)
        except OSError:  # another task was faster: same digest, same bytes
            shutil.rmtree(partial, ignore_errors=True)
            if not target.is_dir():
                raise
    return {split: target / f"{split}.jsonl" for split in built.files}


def read_lines(path: Path) -> list[str]:
    """The chat examples of a file, one JSON object each; none where there is no file."""
    return split_lines(path.read_text(encoding="utf-8")) if path.is_file() else []


def read_holdout(path: Path) -> list[HoldoutExample]:
    """The holdout's prompts and reference posts, in order."""
    conversations = [json.loads(line)["messages"] for line in read_lines(path)]
    return [HoldoutExample(messages[:-1], messages[-1]["content"]) for messages in conversations]
