"""How the servers are, as the running edge says; where none runs, every server is taken for up and idle."""

from __future__ import annotations

from typing import Any

from onedomain.config import Config
from onedomain.control.link import LinkError, ask
from onedomain.decision.placement import QuietBoard
from onedomain.model.health import BoardView, Load, Verdict

SECONDS = 4.0  # status itself takes two where somebody does not answer it


class AskedBoard:
    """A model.health.BoardView of one answer to `status`."""

    def __init__(self, servers: list[dict[str, Any]]) -> None:
        self._verdicts = {server["name"]: Verdict(server["verdict"]) for server in servers}
        self._loads = {server["name"]: Load(server["seconds"], server["in_flight"]) for server in servers}

    def verdict(self, server: str) -> Verdict:
        return self._verdicts.get(server, Verdict.UP)

    def load(self, server: str) -> Load:
        return self._loads.get(server, Load())


async def ask_board(config: Config) -> BoardView:
    try:
        status = await ask(str(config.control), "status", timeout=SECONDS)
        return AskedBoard(status["servers"])
    except (OSError, LinkError, KeyError, ValueError):
        return QuietBoard()
