"""The road of a run from sources to commit: the knowledge base follows the sources, and costs what changed."""

from tests.ingest import Deployment

GUIDE, NOTE = "knowledge://guides/assets.md", "knowledge://notes/one.txt"


def fill(deployment: Deployment) -> None:
    deployment.shelf.put(GUIDE, "# Assets\n\nold fact\n\nkept fact")
    deployment.shelf.put(NOTE, "a note")


def test_the_knowledge_base_follows_the_sources(deployment: Deployment) -> None:
    fill(deployment)
    outcome = deployment.sync()
    assert (outcome.written, outcome.removed, outcome.documents, outcome.chunks) == (2, 0, 2, 3)
    deployment.check()
    deployment.shelf.put(GUIDE, "# Assets\n\nnew fact\n\nkept fact")
    deployment.shelf.put("knowledge://notes/two.txt", "another note")
    outcome = deployment.sync()
    assert (outcome.written, outcome.documents) == (2, 3)
    deployment.check()
    deployment.shelf.take(NOTE)
    outcome = deployment.sync()
    assert (outcome.written, outcome.removed, outcome.documents) == (0, 1, 2)
    deployment.check()
    deployment.check_embedded_once()
