"""`python -m deployments.serving`: serves the desk until it is told to stop.

It knows no route; `GHOSTWRITER_SERVING_HOST` and `GHOSTWRITER_SERVING_PORT` say where.
"""

import logging
import os
import sys
import time

# Gradio reads these when it is imported, and would call home otherwise.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")


def main() -> None:
    """Build the application and serve it."""
    import uvicorn
    from pydantic import Field
    from pydantic_settings import BaseSettings, SettingsConfigDict

    from deployments.serving.app import create_app
    from deployments.serving.composition import build_desk
    from shared.admission import ExposedError, check_exposure
    from shared.settings import get_settings
    from shared.voice import VoiceError

    class Address(BaseSettings):
        model_config = SettingsConfigDict(env_prefix="GHOSTWRITER_SERVING_", extra="ignore")

        host: str = "127.0.0.1"
        port: int = Field(default=7860, ge=1, le=65535)
        # Whose X-Forwarded-* headers count (addresses, comma-separated); else anyone may say who they are.
        trusted_proxies: str = ""

    settings, address = get_settings(), Address()
    logging.Formatter.converter = time.gmtime  # UTC, as everywhere
    logging.basicConfig(
        level=settings.log_level,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        datefmt="%Y-%m-%dT%H:%M:%SZ",
        stream=sys.stderr,
    )
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        password = settings.secrets.admin_password.get_secret_value()
        check_exposure(address.host, password, "set the secret `admin_password`, or listen on 127.0.0.1.")
        desk = build_desk(settings)
    except (VoiceError, ExposedError) as error:
        sys.exit(f"serving: {error}")
    uvicorn.run(
        create_app(desk),
        host=address.host,
        port=address.port,
        log_level="warning",
        timeout_graceful_shutdown=5,
        forwarded_allow_ips=address.trusted_proxies,
    )


if __name__ == "__main__":
    main()
