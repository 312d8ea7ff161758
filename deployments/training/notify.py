"""Starts the training pipeline from outside: `python -m deployments.training.notify [KEY]`.

It knows no Dag: it posts the event "the examples have changed" and the Dag `prepare_examples` finds out what is due.
Scripts may call it as often as they like: a job that failed or was cancelled is bought again by a person alone.
The same with curl, from the folder of the repository (the password is that of the service user):

    URL=http://127.0.0.1:8081
    TOKEN=$(curl -s -X POST $URL/auth/token -H 'Content-Type: application/json' \\
        -d "{\"username\": \"ingest\", \"password\": \"$(cat .state/secrets/training_service_password)\"}" \\
        | python3 -c 'import json, sys; print(json.load(sys.stdin)["access_token"])')
    ID=$(curl -s -H "Authorization: Bearer $TOKEN" "$URL/api/v2/assets?uri_pattern=ghostwriter://examples" \\
        | python3 -c 'import json, sys; print(json.load(sys.stdin)["assets"][0]["id"])')
    curl -s -X POST $URL/api/v2/assets/events -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' \\
        -d "{\"asset_id\": $ID, \"extra\": {\"idempotency_key\": \"$(date +%s)\"}}"
"""

import sys
from uuid import uuid4

from shared import contracts
from shared.airflow import AirflowApi, AirflowError
from shared.settings import Settings, get_settings


def notify(settings: Settings, key: str) -> None:
    """Post the event; the same key means the same news. Raises AirflowError."""
    password = settings.secrets.training_service_password.get_secret_value()
    api = AirflowApi(settings.training_url, settings.training_service_user, password)
    try:
        api.post_asset_event(contracts.EXAMPLES_ASSET, {contracts.IDEMPOTENCY_KEY: key})
    finally:
        api.close()


def main() -> None:
    """Post one event and say what happens next."""
    settings = get_settings()
    try:
        notify(settings, sys.argv[1] if len(sys.argv) > 1 else str(uuid4()))
    except AirflowError as error:
        sys.exit(str(error))
    print(
        f"Posted; {settings.training_url}/dags/{contracts.PREPARE_DAG} shows what is due. "
        f"A job that failed or was cancelled is left as it is: {contracts.TRY_AGAIN}."
    )


if __name__ == "__main__":
    main()
