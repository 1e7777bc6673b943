"""Mail programs that are not ours, at a node that runs as a process: imaplib, curl, mbsync, mutt."""

from __future__ import annotations

import imaplib
import os
import pty
import smtplib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.ours import run
from tests.lab.process import need
from tests.node.lab import message
from tests.node.program import NodeProgram

USER, PASSWORD = "taro@example.com", "se cret"


@pytest.fixture
def program(tmp_path: Path) -> Iterator[NodeProgram]:
    program = NodeProgram(tmp_path)
    program.start()
    add = ["node", "account", "add", USER, "--data", program.data, "--password-stdin"]
    run(*add, text=f"{PASSWORD}\n").check_returncode()
    yield program
    program.stop()
    assert program.check()["findings"] == []


def deliver(program: NodeProgram, *messages: bytes) -> None:
    with smtplib.LMTP("127.0.0.1", program.ports["lmtp"]) as client:
        for each in messages:
            assert client.sendmail("a@example.org", [USER], each) == {}


def log_in(program: NodeProgram) -> imaplib.IMAP4:
    client = imaplib.IMAP4("127.0.0.1", program.ports["imap"])
    client.login(USER, PASSWORD)
    return client


def bodies(program: NodeProgram, folder: str) -> list[bytes]:
    client = log_in(program)
    assert client.select(folder, readonly=True)[0] == "OK"
    _, data = client.uid("FETCH", "1:*", "(BODY.PEEK[])")
    client.logout()
    return sorted(item[1] for item in data if isinstance(item, tuple))


def test_imaplib(program: NodeProgram) -> None:
    deliver(program, message(1), message(2))
    client = log_in(program)
    assert client.select() == ("OK", [b"2"])
    assert client.search(None, "SUBJECT", "2") == ("OK", [b"2"])
    assert client.append("Drafts", r"(\Draft)", imaplib.Time2Internaldate(0), b"draft")[0] == "OK"  # type: ignore[arg-type]
    assert client.copy("1:2", "Archive")[0] == "OK"
    assert client.store("1", "+FLAGS", r"(\Deleted)")[0] == "OK"
    assert client.expunge() == ("OK", [b"1"])
    assert client.create("a/b") == ("OK", [b"Create completed"])
    assert client.rename("a/b", "a/c")[0] == "OK"
    assert client.subscribe("a/c")[0] == "OK"
    assert b'() "/" a/c' in client.lsub()[1]
    client.close()
    client.logout()


@pytest.mark.real
def test_curl(program: NodeProgram, tmp_path: Path) -> None:
    need("curl", "curl")
    url = f"imap://127.0.0.1:{program.ports['imap']}"
    sent = message(7, 5000)
    (tmp_path / "new.eml").write_bytes(sent)

    def curl(*arguments: str) -> bytes:
        command = ["curl", "-sS", "--max-time", "30", "-u", f"{USER}:{PASSWORD}", *arguments]
        return subprocess.run(command, check=True, capture_output=True).stdout

    curl("-T", str(tmp_path / "new.eml"), f"{url}/Sent")
    assert curl(f"{url}/Sent;MAILINDEX=1") == sent
    assert curl(f"{url}/Sent;UID=1;SECTION=TEXT") == sent.partition(b"\r\n\r\n")[2]
    assert curl(f"{url}/Sent?SUBJECT%20number") == b"* SEARCH 1\r\n"
    assert b'* LIST (\\HasNoChildren \\Sent) "/" Sent\r\n' in curl(f"{url}/")
    curl(f"{url}/Sent", "-X", "STORE 1 +Flags \\Deleted")


@pytest.mark.real
def test_mbsync_both_ways(program: NodeProgram, tmp_path: Path) -> None:
    need("mbsync", "mbsync")
    deliver(program, *(message(n, 2000) for n in range(30)))
    (tmp_path / "mail").mkdir()
    config = tmp_path / "mbsyncrc"
    config.write_text(
        f"""IMAPAccount node
Host 127.0.0.1
Port {program.ports["imap"]}
User {USER}
Pass "{PASSWORD}"
SSLType None
AuthMechs *

IMAPStore far
Account node

MaildirStore near
Path {tmp_path}/mail/
Inbox {tmp_path}/mail/INBOX
SubFolders Verbatim

Channel all
Far :far:
Near :near:
Patterns *
Create Both
Expunge Both
SyncState *
"""
    )

    def sync() -> None:
        done = subprocess.run(["mbsync", "-c", str(config), "-a"], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr

    sync()
    inbox = tmp_path / "mail" / "INBOX"
    here = [path for part in ("cur", "new") for path in (inbox / part).iterdir()]
    assert len(here) == 30
    assert (tmp_path / "mail" / "Archive").is_dir()
    here[0].unlink()
    flagged = next(path for path in here[1:] if path.parent.name == "new")
    flagged.rename(inbox / "cur" / f"{flagged.name.partition(':')[0]}:2,FS")
    (inbox / "new" / "1.local").write_bytes(b"Subject: from here\n\nhello\n")
    sync()
    client = log_in(program)
    assert client.select() == ("OK", [b"30"])
    assert len(client.search(None, "FLAGGED", "SEEN")[1][0].split()) == 1
    assert len(client.search(None, "SUBJECT", '"from here"')[1][0].split()) == 1
    client.logout()


@pytest.mark.real
def test_mutt_files_everything(program: NodeProgram, tmp_path: Path) -> None:
    need("mutt", "mutt")
    deliver(program, *(message(n, 1000) for n in range(12)))
    before = bodies(program, "INBOX")
    config = tmp_path / "muttrc"
    config.write_text(
        f"""set imap_user="{USER}" imap_pass="{PASSWORD}" ssl_starttls=no ssl_force_tls=no
set folder="imap://127.0.0.1:{program.ports["imap"]}/" spoolfile=+INBOX
set confirmappend=no delete=yes quit=yes move=no wait_key=no header_cache="{tmp_path}/cache" sleep_time=0
"""
    )
    keys = "<tag-pattern>~A<enter><tag-prefix><save-message>=Archive<enter><sync-mailbox><quit>"
    command = ["mutt", "-n", "-F", str(config), "-e", f'push "{keys}"']
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(TERM="xterm", HOME=str(tmp_path), LC_ALL="C.UTF-8")
        os.execvp("mutt", command)
    screen = b""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            piece = os.read(terminal, 65536)
        except OSError:
            break
        if not piece:
            break
        screen += piece
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    assert status == 0, screen[-2000:]
    assert bodies(program, "INBOX") == []
    assert bodies(program, "Archive") == before
