"""The components of Ghostwriter: one declaration each, in the order in which `make status` lists them.

Adding a component is adding one here and to docker-compose.yml, and a test holds the two together; the driver knows
none of them.
"""

import hashlib
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

from stack import airflow, marquez, weaviate
from stack import postgres as postgres_server
from stack.component import CommandProbe, Component, HeartbeatProbe, HttpProbe, Unavailable
from stack.config import StackConfig
from stack.secrets import AIRFLOWS, SECRET_FILES

# Its command line wants the database's address, password included, where everybody could read it.
MLFLOW_UPGRADE = (
    "import os; from mlflow.db import commands; commands(['upgrade', os.environ['MLFLOW_BACKEND_STORE_URI']])"
)
STATIC_SETTINGS = {"PYTHONUNBUFFERED": "1", "GHOSTWRITER_ADMIN_USER": "admin"}


def declare_all(config: StackConfig) -> tuple[Component | Unavailable, ...]:
    """Every component of this machine's stack, and those it cannot have; secrets must exist."""
    ports = config.ports
    python = config.python
    migrations = list((config.root / "shared" / "ledger").rglob("*.py"))
    # Nobody reads the stamps: their change restarts those that hold an old secret in memory, or that run an older
    # version, before its database is migrated.
    common = {
        **build_settings(config),
        "SECRETS_STAMP": hash_files(config.secrets_dir / name for name in SECRET_FILES),
        "VERSION_STAMP": hash_files([*list_version_files(config, "main"), *migrations]),
    }
    database_step = ("-m", "stack.postgres")
    postgres = Component(
        name="postgres",
        command=(python, *database_step, "serve", str(config.state_dir), str(ports["POSTGRES_PORT"])),
        probe=CommandProbe(postgres_server.build_ready_command(ports["POSTGRES_PORT"])),
        ports={"POSTGRES_PORT": ports["POSTGRES_PORT"]},
        url=f"postgresql://127.0.0.1:{ports['POSTGRES_PORT']}",
        user="postgres",
        password_file=config.secrets_dir / "postgres_password",
        stop_seconds=15,
        # Postgres' fast shutdown; with TERM it would wait for every client to leave.
        stop_signal="INT",
    )
    databases = Component(
        name="postgres-databases",
        command=(python, *database_step, "databases", str(config.state_dir), str(ports["POSTGRES_PORT"])),
        needs=("postgres",),
        one_shot=True,
    )
    ledger = Component(
        name="ledger-migrate",
        command=(python, "-m", "shared.ledger", "migrate"),
        env=common,
        needs=("postgres-databases",),
        one_shot=True,
        stamp=hash_files(migrations),
        database="ledger",
    )
    vectors = Component(
        name="weaviate",
        command=(
            str(weaviate.find_binary(config) or weaviate.get_cached_binary(config)),
            "--host", "127.0.0.1", "--port", str(ports["WEAVIATE_PORT"]), "--scheme", "http",
        ),
        env=weaviate.build_environment(config),
        probe=HttpProbe(f"http://127.0.0.1:{ports['WEAVIATE_PORT']}/v1/.well-known/ready"),
        ports={name: port for name, port in ports.items() if name.startswith("WEAVIATE_")},
        url=f"http://127.0.0.1:{ports['WEAVIATE_PORT']}",
        user=weaviate.WRITER,
        api_key_file=config.secrets_dir / "weaviate_api_key",
        password_file=config.secrets_dir / "weaviate_api_key",
        stop_seconds=20,
    )  # fmt: skip
    mlflow_url = f"http://127.0.0.1:{ports['MLFLOW_PORT']}"
    password = config.secret("mlflow_db_password")
    mlflow_env = {
        "MLFLOW_BACKEND_STORE_URI": f"postgresql+psycopg2://mlflow:{password}@127.0.0.1:{ports['POSTGRES_PORT']}/mlflow",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    # The server refuses to start on a schema that is older than itself.
    mlflow_migration = Component(
        name="mlflow-migrate",
        command=(python, "-c", MLFLOW_UPGRADE),
        env=mlflow_env,
        needs=("postgres-databases",),
        one_shot=True,
        stamp=version("mlflow"),
        database="mlflow",
        # Some of its migrations rewrite whole tables.
        start_seconds=900,
    )
    mlflow = Component(
        name="mlflow",
        command=(
            str(config.bin_dir / "mlflow"), "server", "--host", "127.0.0.1", "--port", str(ports["MLFLOW_PORT"]),
            "--workers", "1", "--serve-artifacts", "--artifacts-destination", str(config.state_dir / "mlflow"),
        ),
        # A new version stops the old server before its database is migrated.
        env={**mlflow_env, "VERSION_STAMP": version("mlflow")},
        needs=("mlflow-migrate",),
        probe=HttpProbe(f"{mlflow_url}/health"),
        ports={"MLFLOW_PORT": ports["MLFLOW_PORT"]},
        url=mlflow_url,
    )  # fmt: skip
    llm = Component(
        name="llm",
        command=(str(config.root / ".venv-llm" / "bin" / "python"), "-m", "deployments.llm"),
        env={
            **common,
            **config.llm_settings,
            "GHOSTWRITER_LLM_PORT": str(ports["LLM_PORT"]),
            "GHOSTWRITER_CACHE_DIR": str(config.cache_dir),
            "VERSION_STAMP": hash_files(list_version_files(config, "llm", "trainer", "torch")),
        },
        probe=HttpProbe(f"http://127.0.0.1:{ports['LLM_PORT']}/ready"),
        ports={"LLM_PORT": ports["LLM_PORT"]},
        group="llm",
        url=f"http://127.0.0.1:{ports['LLM_PORT']}/v1",
        password_file=config.secrets_dir / "llm_api_key",
        api_key_file=config.secrets_dir / "llm_api_key",
        # The first start converts the models' weights.
        start_seconds=300,
        # Answers have five seconds to end, then the trainer is stopped.
        stop_seconds=20,
    )
    serving_url = f"http://127.0.0.1:{ports['SERVING_PORT']}"
    serving = Component(
        name="serving",
        command=(python, "-m", "deployments.serving"),
        # The page's suggestions are those of its start: another voice restarts it.
        env={
            **common,
            "GHOSTWRITER_SERVING_PORT": str(ports["SERVING_PORT"]),
            "VOICE_STAMP": hash_files(config.content_dir.glob("voice.toml")),
        },
        needs=("ledger-migrate",),
        uses=("weaviate", "mlflow", "llm"),
        probe=HttpProbe(f"{serving_url}/health"),
        ports={"SERVING_PORT": ports["SERVING_PORT"]},
        group="serving",
        url=serving_url,
        user="admin",
        password_file=config.admin_password_file,
    )
    lineage = Component(
        name="lineage",
        command=(python, "-m", "deployments.lineage"),
        env=common,
        needs=("ledger-migrate",),
        probe=HeartbeatProbe(config.state_dir / "lineage" / "heartbeat"),
        group="lineage",
    )
    airflows = [
        component for deployment in AIRFLOWS for component in declare_airflow(config, deployment, common)
    ]
    hosted = config.overrides.get("GHOSTWRITER_LLM_BASE_URL")
    model = (
        Unavailable("llm", "another provider (GHOSTWRITER_LLM_BASE_URL)", url=hosted, external=True)
        if hosted
        else llm
    )
    return (
        postgres,
        databases,
        ledger,
        vectors,
        mlflow_migration,
        mlflow,
        model,
        *airflows,
        serving,
        lineage,
        marquez.declare(config),
    )


def declare(config: StackConfig) -> tuple[Component, ...]:
    """The components that this machine runs."""
    return tuple(component for component in declare_all(config) if isinstance(component, Component))


def declare_airflow(config: StackConfig, deployment: str, common: dict[str, str]) -> list[Component]:
    """The migration and the four components of one Airflow deployment."""
    port = config.ports[f"{deployment.upper()}_PORT"]
    url = f"http://127.0.0.1:{port}"
    health = f"{url}/api/v2/monitor/health"
    weaviate_key = "weaviate_api_key" if deployment == "ingest" else "weaviate_reader_key"
    env = {
        **common,
        **airflow.build_environment(config, deployment, port, AIRFLOWS[deployment]),
        **airflow.build_connections(
            common["GHOSTWRITER_LLM_BASE_URL"],
            config.secret("llm_api_key"),
            config.secret(weaviate_key),
            config.ports,
        ),
    }
    program = str(config.bin_dir / "airflow")
    migrate = Component(
        name=f"{deployment}-migrate",
        command=(program, "db", "migrate"),
        env=env,
        needs=("postgres-databases",),
        one_shot=True,
        stamp=hash_files([config.root / "requirements" / "main.txt"]),
        database=deployment,
        group=deployment,
    )
    uses = ("weaviate", "llm") if deployment == "ingest" else ("weaviate", "llm", "mlflow")
    components = [migrate]
    for name, arguments in airflow.COMMANDS.items():
        is_api = name == "api-server"
        components.append(
            Component(
                name=f"{deployment}-{name}",
                command=(program, *arguments),
                env=env,
                needs=(migrate.name, "ledger-migrate"),
                uses=uses,
                probe=HttpProbe(health, field=airflow.HEALTH_FIELDS.get(name, "metadatabase.status")),
                ports={f"{deployment.upper()}_PORT": port} if is_api else {},
                start_seconds=180,
                stop_seconds=15,
                group=deployment,
                url=url if is_api else "",
                user="admin" if is_api else "",
                password_file=config.admin_password_file if is_api else None,
            )
        )
    return components


def build_settings(config: StackConfig) -> dict[str, str]:
    """`shared.settings` for every deployment of ours, as the environment says it."""
    ports = config.ports

    def local(port: str) -> str:
        return f"http://127.0.0.1:{ports[port]}"

    return {
        **STATIC_SETTINGS,
        "GHOSTWRITER_STATE_DIR": str(config.state_dir),
        "GHOSTWRITER_CONTENT_DIR": str(config.content_dir),
        "GHOSTWRITER_SECRETS_DIR": str(config.secrets_dir),
        "GHOSTWRITER_LINEAGE_SPOOL_DIR": str(config.spool_dir),
        "GHOSTWRITER_LEDGER_URL": f"postgresql+psycopg2://ledger@127.0.0.1:{ports['POSTGRES_PORT']}/ledger",
        "GHOSTWRITER_WEAVIATE_HOST": "127.0.0.1",
        "GHOSTWRITER_WEAVIATE_PORT": str(ports["WEAVIATE_PORT"]),
        "GHOSTWRITER_WEAVIATE_GRPC_PORT": str(ports["WEAVIATE_GRPC_PORT"]),
        "GHOSTWRITER_LLM_BASE_URL": f"{local('LLM_PORT')}/v1",
        "GHOSTWRITER_MLFLOW_URL": local("MLFLOW_PORT"),
        "GHOSTWRITER_INGEST_URL": local("INGEST_PORT"),
        "GHOSTWRITER_INGEST_SERVICE_USER": AIRFLOWS["ingest"],
        "GHOSTWRITER_TRAINING_URL": local("TRAINING_PORT"),
        "GHOSTWRITER_TRAINING_SERVICE_USER": AIRFLOWS["training"],
        "GHOSTWRITER_SERVING_URL": local("SERVING_PORT"),
        "GHOSTWRITER_MARQUEZ_URL": config.marquez_url or local("MARQUEZ_PORT"),
        **config.overrides,
    }


def list_version_files(config: StackConfig, *locks: str) -> list[Path]:
    """What changes with a version of Ghostwriter, or of the packages in these lock files."""
    return [config.root / "pyproject.toml", *(config.root / "requirements" / f"{lock}.txt" for lock in locks)]


def hash_files(paths: Iterable[Path]) -> str:
    """A stamp that changes when any of the files does."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()
