"""A running node for the tests beside and below."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from onedomain.node.server import Node
from onedomain.node.store.verify import verify
from tests.node.lab import start_node


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    """Whatever a test does to it, what it keeps is sound in the end."""
    node = await start_node(tmp_path / "node")
    yield node
    await node.close()
    assert verify(tmp_path / "node").findings == ()
