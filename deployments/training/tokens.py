"""The tokenizer that prices are counted with, from ranks on disk: no download.

It knows no price.
"""

import gzip
import hashlib
import os
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

DEFAULT_ENCODING = "o200k_base"
_RANKS_URL = "https://openaipublic.blob.core.windows.net/encodings/{name}.tiktoken"


def load_encoder(model: str, cache_dir: Path) -> Callable[[str], Sequence[int]]:
    """tiktoken's encoder for the model, or the newest one for models that tiktoken doesn't know."""
    import tiktoken
    from tiktoken.model import encoding_name_for_model

    try:
        name = encoding_name_for_model(model)
    except KeyError:
        name = DEFAULT_ENCODING
    _provide_ranks(name, cache_dir)
    # The only way to tell tiktoken where its ranks are.
    os.environ["TIKTOKEN_CACHE_DIR"] = str(cache_dir)
    encoding = tiktoken.get_encoding(name)
    return lambda text: encoding.encode(text, disallowed_special=())


def _provide_ranks(name: str, cache_dir: Path) -> None:
    """Put the ranks that the package bpe-openai carries where tiktoken would keep its download."""
    target = cache_dir / hashlib.sha1(_RANKS_URL.format(name=name).encode()).hexdigest()  # noqa: S324
    spec = find_spec("bpe_openai")  # found, not imported: the package loads 70 MB that aren't needed
    if target.exists() or spec is None or not spec.submodule_search_locations:
        return
    ranks = Path(spec.submodule_search_locations[0]) / "data" / f"{name}.tiktoken.gz"
    if ranks.exists():
        cache_dir.mkdir(parents=True, exist_ok=True)
        partial = target.with_suffix(f".{os.getpid()}")
        partial.write_bytes(gzip.decompress(ranks.read_bytes()))
        partial.replace(target)
