"""An operator's file, and how test accounts are read at their servers."""

from __future__ import annotations

from pathlib import Path

import pytest

from onedomain.drill.operators import CommandPlayer, DrillError, mailbox, read_script
from onedomain.drill.plan import Way
from onedomain.model.account import Account, Home
from onedomain.model.server import Endpoint, LoginWay, Server

GOOD = """
[[server]]
name = "s1"
kill = "true"
start = "echo no room >&2; exit 3"
[[edge]]
name = "e1"
host = "192.0.2.1"
imap = 1143
"""


def test_a_file(tmp_path: Path) -> None:
    (tmp_path / "drill.toml").write_text(GOOD)
    script = read_script(tmp_path / "drill.toml")
    assert list(script.servers) == ["s1"] and not script.edges, "an edge without commands is a door only"
    (door,) = script.doors
    assert (door.host, door.smtp, door.imap) == ("192.0.2.1", 25, 1143)
    assert list(script.servers["s1"].ways) == [Way.KILL]
    script.servers["s1"].take(Way.KILL)
    with pytest.raises(DrillError, match="s1: start: no room"):
        script.servers["s1"].give(Way.KILL)
    with pytest.raises(DrillError, match="no command for pause"):
        script.servers["s1"].take(Way.STOP)
    both = CommandPlayer("s2", {"kill": "a", "start": "b", "cut": "c", "mend": "d", "pause": "e"})
    assert list(both.ways) == [Way.KILL, Way.CUT], "what can't be undone is not done"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[server]", "Expected"),
        ("[[server]]\nname = 's1'\nkill = 'true'\n", "needs name, kill and start"),
        ("[[server]]\nname = 's1'\nkill = 'a'\nstart = 'b'\n", "at least one"),
        (GOOD.replace('host = "192.0.2.1"', ""), "needs name, host"),
    ],
)
def test_a_wrong_file_says_what_is_missing(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "drill.toml").write_text(text)
    with pytest.raises(DrillError, match=said):
        read_script(tmp_path / "drill.toml")


@pytest.mark.parametrize(
    ("way", "user", "authority"),
    [
        (LoginWay.PASSWORD, "hanako", None),
        (LoginWay.MASTER, "hanako*boss", None),
        (LoginWay.AUTHZID, "hanako", "boss"),
    ],
)
def test_mailboxes_are_read_by_the_servers_own_way_in(way: LoginWay, user: str, authority: str | None) -> None:
    server = Server("s1", "dovecot", Endpoint("192.0.2.9", 143), Endpoint("192.0.2.9", 24), login_way=way,
                    master_user="boss", master_password="m", mailbox_format="{local}")
    found = mailbox(Account("hanako@example.com", "head", Home("s1")), server, "own")
    assert (found.user, found.authority, found.server) == (user, authority, "s1")
    assert found.password == ("own" if way is LoginWay.PASSWORD else "m")


def test_a_command_that_fails_is_told() -> None:
    with pytest.raises(DrillError, match="e1: kill: 7"):
        CommandPlayer("e1", {"kill": "exit 7"}).take(Way.KILL)
