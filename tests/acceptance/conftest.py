"""Clusters to order for the tests, ended and removed with them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.cluster import KINDS, Cluster, Home, remove
from tests.conftest import _running


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.real)


def new_folder(stack: ExitStack) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="od-", dir="/tmp"))
    folder.chmod(0o755)
    if os.environ.get("ONEDOMAIN_KEEP") != "1":
        stack.callback(remove, folder)
    return folder


def started(stack: ExitStack, homes: list[Home], folder: Path, **options: Any) -> Cluster:
    cluster = Cluster(folder, homes, **options)
    stack.callback(cluster.kill)
    for server in cluster.servers:
        _running.append(server)
        stack.callback(_running.remove, server)
    cluster.start()
    return cluster


@pytest.fixture
def make_home(lab_folder: Path) -> Callable[..., Home]:
    """`make_home("node", "n2", users={…})`: a home for a cluster to be ordered, not yet running."""
    return lambda kind, *words, **options: KINDS[kind](lab_folder, *words, **options)


@pytest.fixture
def make_cluster(lab_folder: Path) -> Iterator[Callable[..., Cluster]]:
    """`make_cluster("dovecot", "node", people=2, edges=1)`: one to be broken. Homes: kinds, or from `make_home`."""
    with ExitStack() as stack:

        def make(*homes: str | Home, **options: Any) -> Cluster:
            made = [KINDS[home](lab_folder) if isinstance(home, str) else home for home in homes]
            return started(stack, made, lab_folder / "edges", **options)

        yield make
