"""Pieces of the pages: what they show, and that nothing of it is taken for markup."""

from deployments.serving.page.fragments import show_problems, show_removals


def test_files_that_cannot_be_used_are_shown_with_what_to_do() -> None:
    first = {"uri": "knowledge://notes/<script>.txt", "message": "it is binary: save it as plain text"}
    shown = show_problems([first])
    assert "1 file can't be used" in shown
    assert "knowledge://notes/&lt;script&gt;.txt" in shown and "<script>" not in shown
    assert "it is binary: save it as plain text" in shown
    assert "2 files can't be used" in show_problems([first, {**first, "uri": "knowledge://notes/b.txt"}])


def test_nothing_is_shown_where_every_file_can_be_used() -> None:
    assert show_problems([]) == ""


def test_removals_that_wait_are_shown_with_the_way_out() -> None:
    message = "2 of 3 documents of `<b>` are gone; `ghostwriter knowledge sync --accept-removals`"
    shown = show_removals([{"uri": "knowledge://<b>", "message": message, "digest": "a" * 64}])
    assert "--accept-removals" in shown and "&lt;b&gt;" in shown and "<b>" not in shown
    assert show_removals([]) == ""
