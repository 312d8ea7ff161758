#!/bin/sh
# Roles and databases, one of each per component. Postgres runs it once, on an empty volume.
set -eu

for name in ingest training mlflow ledger marquez; do
  psql --quiet --set ON_ERROR_STOP=1 --set name="$name" --set password="$(cat "/run/secrets/${name}_db_password")" \
    --username postgres --dbname postgres <<'SQL'
CREATE ROLE :"name" LOGIN PASSWORD :'password';
CREATE DATABASE :"name" OWNER :"name";
REVOKE CONNECT ON DATABASE :"name" FROM PUBLIC;
SQL
done
