"""Real servers that a whole module shares: two Dovecots, a Cyrus, two nodes and those that can only burn; each test has
an account of its own there.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.backend.contract import account
from tests.backend.link.test_pairs import Pair, Place, make_place
from tests.backend.node_lab import Node
from tests.conftest import factory
from tests.lab.cyrus import Cyrus
from tests.lab.dovecot import Dovecot

Servers = Callable[[str, int], Place]


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    """`servers("dovecot", 1)`: the second Dovecot of this module, started when it is first asked for."""
    started: dict[tuple[str, int], Place] = {}
    with ExitStack() as stack:

        def starter(kind: type) -> Callable[..., Any]:
            makers = factory(kind)
            start = next(makers)
            stack.callback(makers.close)
            return start

        start_dovecot, start_cyrus, start_node = (starter(kind) for kind in (Dovecot, Cyrus, Node))

        def place(kind: str, number: int) -> Place:
            if (kind, number) not in started:
                started[kind, number] = make_place(kind, start_dovecot, start_cyrus, start_node)
            return started[kind, number]

        yield place


@pytest.fixture
async def pair(request: pytest.FixtureRequest, servers: Servers) -> AsyncIterator[Pair]:
    """Two servers of the kinds in the test's parameter, and an account that is this test's."""
    one, other = request.param
    number, which = re.findall(r"\d\d|\[.*", request.node.name)[:2]
    name = f"t{number}-" + re.sub(r"[^a-z]+", "-", which).strip("-") + "@example.com"  # Cyrus takes 90 octets or so
    pair = Pair(servers(one, 0), servers(other, 1), name)
    for place, side in ((pair.primary, pair.source), (pair.replica, pair.target)):
        if place.lab.kind == "cyrus":
            place.lab.set_password(name, "secret")
            place.lab.create_account(name)
        await side.provide(account(name))
    yield pair
    await pair.source.close()
    await pair.target.close()
