from shared.vectors.fake import FakeVectorStore
from tests.vector_store_contract import check_contract


def test_the_fake_keeps_the_contract() -> None:
    check_contract(FakeVectorStore())
