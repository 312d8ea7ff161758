"""`python -m deployments.ingest.notify [SOURCE]`: says that knowledge may have changed, as any system can over REST.

The same with curl is in docs/operations.md: POST /auth/token as the user `serving`, find `ghostwriter://knowledge_sources`,
POST /api/v2/assets/events with its id and an idempotency key.
"""

import sys
from uuid import uuid4

from shared.airflow import AirflowApi, AirflowError
from shared.contracts import IDEMPOTENCY_KEY, KNOWLEDGE_CHANGED_ASSET
from shared.settings import get_settings


def main() -> None:
    """Post the event; exit code 0 when it was taken."""
    if len(sys.argv) > 2:
        sys.exit("usage: python -m deployments.ingest.notify [SOURCE]")
    settings = get_settings()
    password = settings.secrets.ingest_service_password.get_secret_value()
    ingest = AirflowApi(settings.ingest_url, settings.ingest_service_user, password)
    extra = {IDEMPOTENCY_KEY: str(uuid4()), **({"source": sys.argv[1]} if len(sys.argv) == 2 else {})}
    try:
        ingest.post_asset_event(KNOWLEDGE_CHANGED_ASSET, extra)
    except AirflowError as error:
        sys.exit(str(error))
    print(f"{KNOWLEDGE_CHANGED_ASSET}: event posted")


if __name__ == "__main__":
    main()
