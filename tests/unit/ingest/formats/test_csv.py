import pytest

from deployments.ingest.formats.csv import CsvExtractor


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_cells_are_told_apart_by_what_parts_them(delimiter: str) -> None:
    rows = [["name", "does"], ["up", '"starts, all; of\nit"'], ["down", "stops"]]
    content = "\n".join(delimiter.join(row) for row in rows)
    found = CsvExtractor().extract(content.encode(), "a.csv")
    assert found.text == "| name | does |\n|---|---|\n| up | starts, all; of it |\n| down | stops |"


def test_empty_rows_and_columns_go_and_short_rows_are_filled() -> None:
    found = CsvExtractor().extract(b"a,b,,\n,,,\nc\n", "a.csv")
    assert found.text == "| a | b |\n|---|---|\n| c |  |"


def test_a_table_of_too_many_rows_is_cut_with_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deployments.ingest.formats.csv.MAX_ROWS", 10)
    found = CsvExtractor().extract(b"name\n" + b"up\n" * 50, "a.csv")
    assert found.text.count("up") == 9 and found.notes == ("the first 10 rows were read",)
