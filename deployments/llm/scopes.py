"""What a key must be good for, by method and path.

It knows no key. A test holds it together with the routes.
"""

from typing import Final

from deployments.llm.keyring import Scope

_SCOPES: Final[dict[str, Scope]] = {
    "/tokenize": "chat",
    "/detokenize": "chat",
    "/v1/chat": "chat",
    "/v1/completions": "chat",
    "/v1/responses": "chat",
    "/v1/embeddings": "embeddings",
    "/rerank": "embeddings",
    "/v1/rerank": "embeddings",
    "/v2/rerank": "embeddings",
    "/v1/images": "images",
    "/v1/files": "files",
    "/v1/uploads": "files",
    "/v1/fine_tuning": "fine_tuning",
    "/metrics": "metrics",
}


def find_scope(method: str, path: str) -> Scope | None:
    """The scope that a request needs; None where any key will do: the list of models, and what is not there."""
    if path.startswith("/v1/models/") and method == "DELETE":
        return "admin"
    return next((scope for prefix, scope in _SCOPES.items() if f"{path}/".startswith(f"{prefix}/")), None)
