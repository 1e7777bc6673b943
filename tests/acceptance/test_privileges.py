"""An edge that was started by root and runs as somebody else: what only root can read is read again at a reload."""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import socket
import ssl
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import onedomain
from tests.acceptance.cluster import add_accounts, control
from tests.lab.edge import Edge
from tests.lab.ports import free_port
from tests.lab.process import Tree, need, wait_until
from tests.lab.tls import Authority, Certificate

USER = "nobody"


def reachable(path: Path) -> bool:
    """By anybody."""
    return all(one.stat().st_mode & 0o005 == 0o005 for one in path.resolve().parents)


@pytest.fixture
def python(lab_folder: Path) -> tuple[str, dict[str, str]]:
    """An interpreter and its environment, with which `USER` can run us; copies where a folder is root's alone."""
    need("another user", root=True)
    program = sys.executable if reachable(Path(os.__file__)) else "/usr/bin/python3"
    libraries = [Path(onedomain.__file__).parents[1], Path(sysconfig.get_paths()["purelib"])]
    for index, library in enumerate(libraries):
        if not reachable(library / "any"):
            libraries[index] = shutil.copytree(library, lab_folder / f"library{index}")
    return program, {"PYTHONPATH": ":".join(map(str, libraries))}


class Lowered(Edge):
    """Run by `program`."""

    program = sys.executable

    def _launch(self) -> Tree:
        tree = Tree([self.program, "-m", "onedomain.cli.main", "run", "--config", str(self.config)],
                    self.folder / "edge.log", self.namespace)
        tree.start(self.environment)
        return tree


@pytest.fixture
def edge(lab_folder: Path, python: tuple[str, dict[str, str]], certificate: Certificate) -> Lowered:
    """Key, secret and file are root's alone."""
    own = Certificate(lab_folder / "live.crt", lab_folder / "live.key", certificate.ca)
    put(certificate, own)
    secret = lab_folder / "secret"
    secret.write_text("of the master\n")
    secret.chmod(0o600)
    nobody_there = {"host": "127.0.0.1", "port": free_port("127.0.0.1")}
    login = {"way": "master", "user": "m", "password_file": secret}
    made = Lowered(lab_folder / "e1", servers=[{"name": "d1", "kind": "dovecot", "imap": nobody_there,
                                                "delivery": nobody_there, "login": login}],
                   certificate=own, protocols=("smtp", "imaps"), extra={"edge": {"user": USER}}, environment=python[1])
    made.program = python[0]
    made.state.mkdir()
    made.config.chmod(0o600)
    add_accounts(made, [("joe@example.com", "d1")])
    return made


def put(issued: Certificate, live: Certificate) -> None:
    for source, target in ((issued.cert, live.cert), (issued.key, live.key)):
        shutil.copy(source, target)
        target.chmod(0o600)


def shown(edge: Edge) -> str:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    place = (edge.host, edge.port["imaps"])
    with socket.create_connection(place, 10) as plain, context.wrap_socket(plain) as tls:
        return hashlib.sha256(tls.getpeercert(binary_form=True) or b"").hexdigest()


def fingerprint(certificate: Certificate) -> str:
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate.cert.read_text())).hexdigest()


def user_ids(pid: int) -> list[int]:
    """Real, effective, saved."""
    (line,) = [one for one in Path(f"/proc/{pid}/status").read_text().splitlines() if one.startswith("Uid:")]
    return [int(word) for word in line.split()[1:4]]


def test_a_key_that_only_root_can_read_is_read_again(edge: Lowered, authority: Authority) -> None:
    edge.start()
    try:
        status, uid = control(edge, "status"), pwd.getpwnam(USER).pw_uid
        pids = [status["processes"]["keeper"], *(worker["pid"] for worker in status["workers"])]
        assert all(user_ids(pid) == [uid, uid, uid] for pid in pids)
        second = authority.issue("mx1.example.com", file="second")
        put(second, Certificate(*(edge.tables["tls"]["certificate"][0][key] for key in ("certificate", "key")), Path()))
        edge.tables["unit"].append({"name": "branch"})
        edge.write()
        assert edge.ask("reload") == {"restart_needed": []}
        wait_until(lambda: {shown(edge) for _ in range(10)} == {fingerprint(second)}, "the new certificate", 10)
        wait_until(lambda: len(edge.events("configuration read")) == 4, "everybody's word", 10)
        # Whoever is started from now on has it, too, and may be signalled.
        os.kill(pids[1], 9)
        wait_until(lambda: len(control(edge, "status")["workers"]) == 2
                   and pids[1] not in [worker["pid"] for worker in control(edge, "status")["workers"]], "another", 20)
        assert {shown(edge) for _ in range(10)} == {fingerprint(second)}
    finally:
        edge.stop()


def run_once(edge: Lowered) -> str:
    done = subprocess.run([edge.program, "-m", "onedomain.cli.main", "run", "--config", str(edge.config)],
                          env={**os.environ, **edge.environment, "ONEDOMAIN_LANG": "en"}, capture_output=True,
                          text=True, timeout=30)
    assert done.returncode == 1, done
    return done.stderr


def test_a_user_who_cannot_run_us_starts_nothing(edge: Lowered, lab_folder: Path) -> None:
    source = shutil.copytree(Path(onedomain.__file__).parent, lab_folder / "own" / "onedomain")
    (lab_folder / "own").chmod(0o700)
    before = edge.environment["PYTHONPATH"]
    edge.environment["PYTHONPATH"] = f"{lab_folder}/own:{before}"
    said = run_once(edge)
    assert f"{USER} cannot read {source}" in said and "/opt/onedomain" in said
    edge.environment["PYTHONPATH"] = before
    edge.tables["edge"]["user"] = "nobody-of-this-name"
    edge.write()
    assert "edge.user: nobody-of-this-name: there is nobody" in run_once(edge)
