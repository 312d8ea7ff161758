"""`python -m deployments.serving`: serves the desk until it is told to stop.

It knows no route; `GHOSTWRITER_SERVING_HOST` and `GHOSTWRITER_SERVING_PORT` say where.
"""

import logging
import os
import sys

# Gradio reads these when it is imported, and would call home otherwise.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")


def main() -> None:
    """Build the application and serve it."""
    import uvicorn

    from deployments.serving.app import create_app
    from deployments.serving.composition import build_desk
    from deployments.serving.settings import ServingSettings
    from shared.admission import ExposedError, check_exposure
    from shared.log_lines import write_log
    from shared.settings import get_settings
    from shared.voice import VoiceError

    settings, own = get_settings(), ServingSettings()
    write_log(settings.log_level)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        password = settings.secrets.admin_password.get_secret_value()
        check_exposure(own.serving_host, password, "set the secret `admin_password`, or listen on 127.0.0.1.")
        desk = build_desk(settings)
    except (VoiceError, ExposedError) as error:
        sys.exit(f"serving: {error}")
    uvicorn.run(
        create_app(desk),
        host=own.serving_host,
        port=own.serving_port,
        log_level="warning",
        timeout_graceful_shutdown=5,
        forwarded_allow_ips=own.serving_trusted_proxies,
    )


if __name__ == "__main__":
    main()
