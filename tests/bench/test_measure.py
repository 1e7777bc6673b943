"""CPU seconds of a tree: what lives, what has ended and been reaped, what went away from its parent."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from bench.measure import cpu_seconds, memory_kilobytes

from tests.lab.process import Tree, wait_until

BURN = """
import os, sys, time
def burn():
    while time.process_time() < 0.3:
        pass
def told():
    open(sys.argv[1], "w").close()
    time.sleep(60)
"""
WAYS = {
    "itself": "burn(); told()",
    "a child that it reaped": "pid = os.fork()\nif not pid:\n    burn(); os._exit(0)\nos.waitpid(pid, 0); told()",
    "a child that it left behind": (
        "pid = os.fork()\nif not pid:\n"
        "    if os.fork():\n        os._exit(0)\n"
        "    os.setsid(); burn(); told()\n"
        "os.waitpid(pid, 0); time.sleep(60)"
    ),
    "an orphan that has ended": (
        "pid = os.fork()\nif not pid:\n"
        "    if os.fork():\n        os._exit(0)\n"
        "    burn(); open(sys.argv[1], 'w').close(); os._exit(0)\n"
        "os.waitpid(pid, 0); time.sleep(60)"
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_time_is_counted_whoever_spent_it(way: str, tmp_path: Path) -> None:
    told = tmp_path / "told"
    tree = Tree([sys.executable, "-IS", "-c", BURN + WAYS[way], told], tmp_path / "log")
    tree.start()
    try:
        wait_until(lambda: told.exists(), way)
        wait_until(lambda: cpu_seconds(tree.root) >= 0.28, f"{way}: {cpu_seconds(tree.root)} s counted")
        assert cpu_seconds(tree.root) < 0.6
        assert memory_kilobytes(tree.root) > 1000
    finally:
        tree.kill()
