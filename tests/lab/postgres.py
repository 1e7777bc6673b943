"""A PostgreSQL of one's own, with databases made and dropped in milliseconds. Knows initdb, postgres and psql."""

from __future__ import annotations

import pwd
import shutil
import signal
import subprocess
import uuid
from pathlib import Path

from tests.lab.ports import free_port
from tests.lab.process import Server, Tree, need, search_path

OWNER = "postgres"


class Postgres(Server):
    """One cluster. `durable=False` gives up fsync for speed; what is in the page cache survives a kill either way."""

    kind = "postgres"

    def __init__(
        self,
        folder: Path,
        *,
        host: str = "127.0.0.1",
        namespace: str | None = None,
        durable: bool = True,
        settings: dict[str, str] | None = None,
    ) -> None:
        installed = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
        self.programs = installed[-1] if installed else Path("/usr/lib/postgresql/bin")
        need("postgresql", self.programs / "initdb", self.programs / "postgres", self.programs / "psql", root=True)
        super().__init__(folder, host, namespace)
        self.port = free_port(host)
        self.data, self.sockets = folder / "data", folder / "sockets"
        self.settings = {"fsync": "on" if durable else "off", "max_connections": "200", **(settings or {})}
        for part in (self.data, self.sockets):
            part.mkdir(exist_ok=True)
            shutil.chown(part, OWNER, OWNER)
        self.data.chmod(0o700)
        if not (self.data / "PG_VERSION").exists():
            self._run_as_owner(
                "initdb", "-D", self.data, "-U", OWNER, "--auth=trust", "--no-sync", "--no-instructions", "-E", "UTF8",
                "--locale=C.UTF-8",
            )  # fmt: skip

    def _as_owner(self, program: str, *arguments: str | Path) -> list[str | Path]:
        account = pwd.getpwnam(OWNER)
        ids = [f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]
        return ["setpriv", *ids, self.programs / program, *arguments]

    def _run_as_owner(self, program: str, *arguments: str | Path) -> None:
        subprocess.run(
            self._as_owner(program, *arguments),
            check=True,
            capture_output=True,
            cwd=self.folder,
            env={"PATH": search_path(), "LC_ALL": "C.UTF-8"},
        )

    def _launch(self) -> Tree:
        options: list[str | Path] = ["-p", str(self.port), "-k", self.sockets, "-h", self.host]
        for name, value in self.settings.items():
            options += ["-c", f"{name}={value}"]
        command = self._as_owner("postgres", "-D", self.data, *options)
        tree = Tree(command, self.folder / "postgres.log", self.namespace)
        tree.start()
        return tree

    def _is_ready(self) -> bool:
        return self._psql("postgres", "select 1").returncode == 0

    def _psql(self, database: str, statement: str) -> subprocess.CompletedProcess[str]:
        where = ["-h", str(self.sockets), "-p", str(self.port), "-U", OWNER, "-d", database]
        return subprocess.run(
            [self.programs / "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", *where, "-c", statement],
            capture_output=True,
            text=True,
            timeout=60,
        )

    def stop(self) -> None:
        """Fast shutdown: sessions are cut, transactions rolled back, everything written."""
        if self.tree:
            self.tree.signal_first(signal.SIGINT)
            super().stop()

    def crash(self) -> None:
        """Immediate shutdown, as `pg_ctl -m immediate stop`: recovery from the log at the next start."""
        if self.tree:
            self.tree.signal_first(signal.SIGQUIT)
            super().stop()

    def execute(self, statement: str, database: str = "postgres") -> str:
        """Run one statement; rows as psql prints them, unaligned."""
        done = self._psql(database, statement)
        if done.returncode:
            raise RuntimeError(done.stderr)
        return done.stdout.strip()

    def create_database(self) -> str:
        name = f"lab_{uuid.uuid4().hex[:12]}"
        self.execute(f"create database {name}")
        return name

    def drop_database(self, name: str) -> None:
        self.execute(f"drop database if exists {name} with (force)")

    def url(self, database: str, driver: str = "postgresql+asyncpg") -> str:
        return f"{driver}://{OWNER}@{self.host}:{self.port}/{database}"
