r"""`python -m deployments.ingest.notify SOURCE`: says that a knowledge source changed, as any system can over REST.

The same with curl, where $INGEST is the deployment's address and $PASSWORD the secret `ingest_service_password`:

    TOKEN=$(curl -sX POST $INGEST/auth/token -H 'Content-Type: application/json' \
        -d '{"username": "serving", "password": "'$PASSWORD'"}' | sed 's/.*"access_token":"\([^"]*\)".*/\1/')
    curl -s "$INGEST/api/v2/assets?uri_pattern=ghostwriter://sources/guides" -H "Authorization: Bearer $TOKEN"
    curl -sX POST $INGEST/api/v2/assets/events -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' \
        -d '{"asset_id": 1, "extra": {"idempotency_key": "my-system-42"}}'
"""

import sys
from uuid import uuid4

from shared.airflow import AirflowApi, AirflowError
from shared.contracts import IDEMPOTENCY_KEY, source_asset
from shared.settings import get_settings


def main() -> None:
    """Post the event; exit code 0 when it was taken."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m deployments.ingest.notify SOURCE")
    settings = get_settings()
    password = settings.secrets.ingest_service_password.get_secret_value()
    ingest = AirflowApi(settings.ingest_url, settings.ingest_service_user, password)
    try:
        ingest.post_asset_event(source_asset(sys.argv[1]), {IDEMPOTENCY_KEY: str(uuid4())})
    except AirflowError as error:
        sys.exit(str(error))
    print(f"{source_asset(sys.argv[1])}: event posted")


if __name__ == "__main__":
    main()
