"""A PostgreSQL server of the tests' own, on a socket in a folder that goes with it."""

import itertools
import os
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url

from dspex.store import Store

_numbers = itertools.count()
_USER = "postgres"


def programs():
    """Find the folder of the server's programs, which Debian keeps off the path."""
    found = shutil.which("initdb")
    folders = (
        [str(Path(found).resolve().parent)]
        if found
        else [str(each) for each in sorted(Path("/usr/lib/postgresql").glob("*/bin"))]
    )
    return Path(folders[-1]) if folders else None


@contextmanager
def server(bin_folder):
    """Run a server, and give the beginning of its databases' URLs and their end."""
    folder = Path(tempfile.mkdtemp(prefix="dspex-pg-", dir="/tmp"))  # a socket's path must be short
    if os.getuid() == 0:
        shutil.chown(folder, _USER)

    def run(program, *args):
        # The server refuses to run as root.
        become = ["runuser", "-u", _USER, "--"] if os.getuid() == 0 else []
        subprocess.run(
            [*become, bin_folder / program, *args], check=True, cwd=folder, capture_output=True, timeout=60
        )

    try:
        run("initdb", "-D", f"{folder}/data", "-A", "trust", "-U", _USER, "-E", "UTF8", "--no-sync")
        options = f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off"
        run("pg_ctl", "-D", f"{folder}/data", "-w", "-l", f"{folder}/log", "-o", options, "start")
        try:
            yield f"postgresql+psycopg://{_USER}@/{_USER}?host={folder}"
        finally:
            run("pg_ctl", "-D", f"{folder}/data", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_server():
    """Run a PostgreSQL server and give its URL; without one installed, the test is skipped, in CI it fails."""
    folder = programs()
    if folder is None:
        if os.environ.get("DSPEX_REQUIRE_POSTGRES"):
            pytest.fail("DSPEX_REQUIRE_POSTGRES is set and PostgreSQL is not installed")
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    with server(folder) as url:
        yield url


@pytest.fixture
def postgres(postgres_server):
    """Give the URL of an empty database."""
    name = f"runs{next(_numbers)}"
    url = make_url(postgres_server)
    with psycopg.connect(
        host=url.query["host"], user=url.username, dbname=url.database, autocommit=True
    ) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return url.set(database=name).render_as_string(hide_password=False)


@pytest.fixture(params=["memory", "file", "postgres"])
def store(request, tmp_path):
    """Open a store of each kind."""
    url = {"memory": "memory", "file": str(tmp_path / "runs.db")}.get(request.param)
    made = Store(url or request.getfixturevalue("postgres"))
    yield made
    made.close()
