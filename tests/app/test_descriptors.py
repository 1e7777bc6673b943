"""Open files: the limit is raised as far as it goes, and what the listeners ask for is added up."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from onedomain.app import descriptors
from onedomain.config import load

FILE = """
[edge]
name = "mx1.example.com"
state = "state"
[[domain]]
name = "example.com"
postmaster = "a@example.com"
[[server]]
name = "s"
kind = "imap"
imap = { host = "192.0.2.1" }
delivery = { host = "192.0.2.1" }
max_deliveries = 7
[[unit]]
name = "u"
[[listener]]
protocol = "smtp"
max_sessions = 100
[[listener]]
protocol = "imap"
max_sessions = 1000
plaintext_passwords = true
"""


def test_a_relayed_session_counts_twice(tmp_path: Path) -> None:
    (tmp_path / "onedomain.toml").write_text(FILE)
    assert descriptors.needed(load(tmp_path / "onedomain.toml")) == descriptors.OWN + 100 + 2 * 1000 + 7


def test_the_soft_limit_becomes_the_hard_one() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard < 300:
        pytest.skip("needs a hard limit of open files above 300")
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
        raised = descriptors.raise_limit() == hard == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        os._exit(0 if raised else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
