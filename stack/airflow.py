"""How one Airflow deployment runs as local processes: its environment and the commands of its four components.

It knows no Dag; what is the same in containers is the same here, with files in the state folder.
"""

import json
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

from stack.config import StackConfig

COMMANDS: Final[Mapping[str, tuple[str, ...]]] = {
    "api-server": ("api-server",),
    # -s: no log server, which would bind all interfaces.
    "scheduler": ("scheduler", "-s"),
    "dag-processor": ("dag-processor",),
    "triggerer": ("triggerer", "-s"),
}
HEALTH_FIELDS: Final[Mapping[str, str]] = {
    "scheduler": "scheduler.status",
    "dag-processor": "dag_processor.status",
    "triggerer": "triggerer.status",
}
AUTH_MANAGER = "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager"

# No source code, no task arguments: a lineage event goes to people who may see neither.
EMISSION_POLICY = [
    {
        "scope": {},
        "controls": {"include_source_code": False, "include_full_task_info": False, "hook_lineage": False},
    }
]

# No values in its errors and logs. The page size is Airflow's own default, which would be lost otherwise.
ENGINE_ARGUMENTS = {"hide_parameters": True, "insertmanyvalues_page_size": 10000}


def build_environment(config: StackConfig, deployment: str, port: int, service_user: str) -> dict[str, str]:
    """The environment of all components of `deployment`; secrets included, so it goes to a private file only."""
    home = config.state_dir / "airflow" / deployment
    base_url = f"http://127.0.0.1:{port}"
    password = quote(config.secret(f"{deployment}_db_password"), safe="")
    database = f"postgresql+psycopg2://{deployment}:{password}@127.0.0.1:{config.ports['POSTGRES_PORT']}/{deployment}"
    folder = config.root / "deployments" / deployment
    return {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(folder / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(folder / "plugins"),
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        # Each task at once keeps a worker process of some 50 MB for good.
        "AIRFLOW__CORE__PARALLELISM": "3",
        # A new source's asset is known as soon as its folder is seen; its tasks must not be 30 s behind.
        "AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL": "2",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "True",
        "AIRFLOW__CORE__AUTH_MANAGER": AUTH_MANAGER,
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"admin:admin,{service_user}:op",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(
            config.secrets_dir / f"{deployment}_airflow_passwords"
        ),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{base_url}/execution/",
        "AIRFLOW__CORE__FERNET_KEY": config.secret(f"{deployment}_fernet_key"),
        "AIRFLOW__API__SECRET_KEY": config.secret(f"{deployment}_api_secret"),
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__BASE_URL": base_url,
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__API__INSTANCE_NAME": f"Ghostwriter {deployment}",
        "AIRFLOW__API_AUTH__JWT_SECRET": config.secret(f"{deployment}_jwt_secret"),
        "AIRFLOW__API_AUTH__JWT_ISSUER": f"ghostwriter-{deployment}",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database,
        "AIRFLOW__DATABASE__SQL_ALCHEMY_ENGINE_ARGS": json.dumps(ENGINE_ARGUMENTS),
        "AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES": "1",
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "30",
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.25",
        # A task whose scheduler or worker was killed goes on after a minute or two; the default is five or more.
        "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "60",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "120",
        # With the default, deferred tasks with quick triggers are now and then taken for dead.
        "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "AIRFLOW__OPENLINEAGE__NAMESPACE": f"ghostwriter-{deployment}",
        "AIRFLOW__OPENLINEAGE__EXTRACTORS": "shared.orchestration.extractor.TaskExtractor",
        "AIRFLOW__OPENLINEAGE__EXECUTE_IN_THREAD": "True",
        "AIRFLOW__OPENLINEAGE__EMISSION_POLICY": json.dumps(EMISSION_POLICY),
        "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(
            {
                "type": "file",
                "log_file_path": str(config.spool_dir / deployment / "events.jsonl"),
                "append": True,
            }
        ),
        "MALLOC_ARENA_MAX": "2",
    }


def build_connections(
    llm_base_url: str, llm_key: str, weaviate_key: str, ports: Mapping[str, int]
) -> dict[str, str]:
    """Airflow connections for the providers' own operators and hooks, from the same secrets."""
    weaviate = {
        "conn_type": "weaviate",
        "host": "127.0.0.1",
        "port": ports["WEAVIATE_PORT"],
        "extra": {
            "token": weaviate_key,
            "http_secure": False,
            "grpc_host": "127.0.0.1",
            "grpc_port": ports["WEAVIATE_GRPC_PORT"],
            "grpc_secure": False,
        },
    }
    return {
        "AIRFLOW_CONN_OPENAI_DEFAULT": json.dumps(
            {"conn_type": "openai", "password": llm_key, "host": llm_base_url}
        ),
        "AIRFLOW_CONN_WEAVIATE_DEFAULT": json.dumps(weaviate),
    }
