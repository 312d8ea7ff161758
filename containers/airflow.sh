#!/bin/sh
# Turns the secret files of one Airflow deployment into what Airflow takes, then becomes the component: airflow.sh scheduler -s
set -eu

umask 077
openai_key=$(cat /run/secrets/llm_api_key)
if [ -f /run/secrets/weaviate_api_key ]; then
  weaviate_key=$(cat /run/secrets/weaviate_api_key)
else
  weaviate_key=$(cat /run/secrets/weaviate_reader_key)
fi
database_password=$(cat "/run/secrets/${DEPLOYMENT}_db_password")

export AIRFLOW__DATABASE__SQL_ALCHEMY_CONN="postgresql+psycopg2://${DEPLOYMENT}:${database_password}@postgres:5433/${DEPLOYMENT}"
AIRFLOW__CORE__FERNET_KEY=$(cat "/run/secrets/${DEPLOYMENT}_fernet_key")
AIRFLOW__API__SECRET_KEY=$(cat "/run/secrets/${DEPLOYMENT}_api_secret")
AIRFLOW__API_AUTH__JWT_SECRET=$(cat "/run/secrets/${DEPLOYMENT}_jwt_secret")
export AIRFLOW__CORE__FERNET_KEY AIRFLOW__API__SECRET_KEY AIRFLOW__API_AUTH__JWT_SECRET
export AIRFLOW_CONN_OPENAI_DEFAULT="{\"conn_type\": \"openai\", \"password\": \"${openai_key}\", \"host\": \"${GHOSTWRITER_LLM_BASE_URL}\"}"
export AIRFLOW_CONN_WEAVIATE_DEFAULT="{\"conn_type\": \"weaviate\", \"host\": \"${GHOSTWRITER_WEAVIATE_HOST}\", \"port\": ${GHOSTWRITER_WEAVIATE_PORT}, \"extra\": {\"token\": \"${weaviate_key}\", \"http_secure\": false, \"grpc_host\": \"${GHOSTWRITER_WEAVIATE_HOST}\", \"grpc_port\": ${GHOSTWRITER_WEAVIATE_GRPC_PORT}, \"grpc_secure\": false}}"

# The file transport makes no folder, and loses events without a word where there is none.
mkdir -p "${GHOSTWRITER_LINEAGE_SPOOL_DIR}/${DEPLOYMENT}"

# Airflow wants to write to the file of passwords, and a secret is read-only.
if [ "$1" = api-server ]; then
  cat "/run/secrets/${DEPLOYMENT}_airflow_passwords" > "$AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"
fi
exec airflow "$@"
