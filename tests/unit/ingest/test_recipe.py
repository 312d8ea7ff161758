from deployments.ingest.formats.markdown import MarkdownExtractor
from deployments.ingest.recipe import SPLITTING, describe_extractor, describe_recipe, read_parts


def test_a_recipe_names_extractor_and_splitting_with_their_versions() -> None:
    assert describe_recipe(MarkdownExtractor()) == "markdown-1+split-2"
    assert read_parts("markdown-1+split-2") == (describe_extractor(MarkdownExtractor()), SPLITTING)


def test_what_was_written_before_recipes_has_no_parts() -> None:
    assert read_parts("") == ("", "")
