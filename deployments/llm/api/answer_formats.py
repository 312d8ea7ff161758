"""`response_format` and its like: text, any JSON object, or JSON by a schema."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, field_validator

from deployments.llm.api.json_schemas import prepare_schema
from deployments.llm.api.tools import ToolName
from deployments.llm.routes.strict_body import StrictBody


class TextFormat(StrictBody):
    """No form."""

    type: Literal["text"]

    @property
    def held(self) -> Mapping[str, Any] | None:
        """What the answer is held to."""
        return None


class JsonObjectFormat(StrictBody):
    """Any JSON object."""

    type: Literal["json_object"]

    @property
    def held(self) -> Mapping[str, Any] | None:
        """What the answer is held to."""
        return {}


class NamedSchema(StrictBody):
    """A schema, which an answer always keeps to: `strict` or not makes no difference. The model does not see it."""

    name: ToolName
    description: str | None = None
    schema_: Annotated[dict[str, Any], Field(alias="schema")]
    strict: bool | None = None

    @field_validator("schema_")
    @classmethod
    def prepare(cls, schema: dict[str, Any]) -> dict[str, Any]:
        """Refuses what can't be held to."""
        return prepare_schema(schema)


class JsonSchemaFormat(StrictBody):
    """JSON that a schema allows, as chat completions word it."""

    type: Literal["json_schema"]
    json_schema: NamedSchema

    @property
    def held(self) -> Mapping[str, Any] | None:
        """What the answer is held to."""
        return self.json_schema.schema_


class FlatJsonSchemaFormat(NamedSchema):
    """The same, as responses word it."""

    type: Literal["json_schema"]

    @property
    def held(self) -> Mapping[str, Any] | None:
        """What the answer is held to."""
        return self.schema_


ChatFormat = Annotated[TextFormat | JsonObjectFormat | JsonSchemaFormat, Discriminator("type")]
ResponseFormat = Annotated[TextFormat | JsonObjectFormat | FlatJsonSchemaFormat, Discriminator("type")]
