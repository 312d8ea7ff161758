"""Settings that only the desk's server has; the shared ones are in `shared.settings`.

It knows no page and no route.
"""

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class ServingSettings(BaseSettings):
    """Every setting is an environment variable `GHOSTWRITER_<NAME>`."""

    model_config = SettingsConfigDict(env_prefix="GHOSTWRITER_", extra="ignore")

    serving_host: str = "127.0.0.1"
    serving_port: int = Field(default=7860, ge=1, le=65535)
    serving_trusted_proxies: str = Field(
        default="",
        description="addresses, comma-separated, whose X-Forwarded-* headers count; else anyone may say who they are",
    )
