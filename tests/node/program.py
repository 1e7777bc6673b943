"""A node as a process of its own, for tests that kill it or let real clients at it. Knows nothing of pytest."""

from __future__ import annotations

import json
from pathlib import Path

from tests.lab.ours import Ours, run
from tests.lab.process import Tree, wait_until

SECRET = "sesame"


class NodeProgram:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.ports: dict[str, int] = {}
        self.starts = 0
        self.tree: Tree | None = None

    def start(self) -> None:
        self.starts += 1
        config = self.folder / "node.toml"
        config.write_text('replication_user = "replica"\nreplication_password = "secret"\n')
        output = self.folder / f"output-{self.starts}.log"
        self.tree = Ours(
            ["node", "run", "--config", str(config), "--data", str(self.data), "--lmtp", "127.0.0.1:0",
             "--imap", "127.0.0.1:0", "--autocreate", "--proxy-user", "edge"],
            output,
        )  # fmt: skip
        self.tree.start({"ONEDOMAIN_NODE_PROXY_PASSWORD": SECRET})
        wait_until(lambda: not self.tree.running or len(self._listening(output)) == 2, f"node: {output}")
        self.ports = self._listening(output)
        assert len(self.ports) == 2, output.read_text()

    def kill(self) -> None:
        assert self.tree is not None
        self.tree.kill()

    def stop(self) -> None:
        assert self.tree is not None
        self.tree.terminate()

    def check(self) -> dict[str, object]:
        done = run("node", "check", "--data", self.data, "--json")
        return dict(json.loads(done.stdout))

    @staticmethod
    def _listening(output: Path) -> dict[str, int]:
        words = [line.split() for line in output.read_text().splitlines()] if output.exists() else []
        return {word[0]: int(word[1].rpartition(":")[2]) for word in words if len(word) == 2 and ":" in word[1]}
