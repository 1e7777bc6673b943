"""A home that can't be given the UIDVALIDITYs that clients know: they are shown them all the same, by IMAP and POP3.

Between Dovecots of which nothing may be asked but IMAP. What is shown is read over the edge, as clients do.
"""

from __future__ import annotations

import imaplib
import poplib
import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.acceptance.cluster import PASSWORD, Cluster
from tests.acceptance.test_failover import LONG, failover, home, log_in
from tests.acceptance.test_links import await_whole, client, send
from tests.lab.process import wait_until

FOLDERS = ("INBOX", "Sent", "Work/Räume")
WIRE = {"Work/Räume": "Work/R&AOQ-ume"}


def number(session: imaplib.IMAP4, code: str) -> int:
    _, data = session.response(code)
    assert data and data[-1] is not None
    return int(data[-1].split()[0])


def known(cluster: Cluster, account: str) -> dict[str, tuple[int, list[int]]]:
    """What a client has in its cache after a look at everything; each way of asking says the same."""
    found = {}
    with client(cluster, account) as session:
        for name in FOLDERS:
            wire = f'"{WIRE.get(name, name)}"'
            status, _ = session.select(wire)
            assert status == "OK"
            validity = number(session, "UIDVALIDITY")
            _, data = session.uid("SEARCH", "ALL")
            found[name] = validity, [int(uid) for uid in data[0].split()]
            session.unselect()
            _, (told,) = session.status(wire, "(MESSAGES UIDVALIDITY)")
            assert int(re.search(rb"UIDVALIDITY (\d+)", told)[1]) == validity  # type: ignore[index, arg-type]
    return found


def uidplus(cluster: Cluster, account: str) -> None:
    """APPENDUID and COPYUID name the folder's UIDVALIDITY as SELECT does, tagged and untagged."""
    with client(cluster, account) as session:
        shown = {}
        for name in ("Sent", "INBOX"):
            session.select(name)
            shown[name] = number(session, "UIDVALIDITY")
        _, (answer,) = session.append("Sent", None, None, b"Subject: mine\r\n\r\nmine\r\n")  # type: ignore[arg-type]
        found = re.search(rb"\[APPENDUID (\d+) (\d+)\]", answer)
        assert found is not None and int(found[1]) == shown["Sent"]
        session.copy("1", "Sent")
        assert number(session, "COPYUID") == shown["Sent"]
        session.select("Sent")
        session.uid("MOVE", "1:*", "INBOX")
        assert number(session, "COPYUID") == shown["INBOX"]


def uidls(cluster: Cluster, account: str) -> list[bytes]:
    session = poplib.POP3(cluster.edge.host, cluster.edge.port["pop3"], timeout=20)
    session.user(account)
    session.pass_(PASSWORD)
    found = [line.split()[1] for line in session.uidl()[1]]
    session.quit()
    return found


def shown(cluster: Cluster, account: str) -> bool:
    """Whether anything is rewritten: what every Dovecot announces is hidden only then."""
    with client(cluster, account) as session:
        return "NOTIFY" not in session.capability()[1][0].decode()


def fill(cluster: Cluster, account: str) -> None:
    for text in ("one", "two", "three"):
        send(cluster, account, text=text)
    cluster.await_quiet()
    with client(cluster, account) as session:
        for name in FOLDERS[1:]:
            session.create(f'"{WIRE.get(name, name)}"')
        for number_ in range(3):
            session.append(f'"{WIRE["Work/Räume"]}"', None, None,  # type: ignore[arg-type]
                           f"Subject: {number_}\r\n\r\n{number_}\r\n".encode())
    uidplus(cluster, account)


def modseq(cluster: Cluster, account: str) -> int:
    """What a client remembers of INBOX that knows CONDSTORE; 0: that is hidden."""
    with client(cluster, account) as session:
        if "QRESYNC" not in session.capability()[1][0].decode():
            return 0
        session._simple_command("ENABLE", "QRESYNC")  # type: ignore[attr-defined]
        session.select("INBOX")
        return number(session, "HIGHESTMODSEQ")


def changed_since(cluster: Cluster, account: str, validity: int, modseq: int) -> set[int]:
    """The UIDs of which it is told when it comes back."""
    with client(cluster, account) as session:
        session._simple_command("ENABLE", "QRESYNC")  # type: ignore[attr-defined]
        session._simple_command("SELECT", "INBOX", f"(QRESYNC ({validity} {modseq}))")  # type: ignore[attr-defined]
        found = (re.search(rb"UID (\d+)", line) for line in session.response("FETCH")[1] if line)
        return {int(each[1]) for each in found if each}


def at_server(cluster: Cluster, server: str, account: str) -> dict[str, int]:
    """What the server itself says."""
    found = {}
    with cluster.homes[server].mailbox(account).open() as session:
        for name in ("INBOX", "Sent"):
            session.select(name, readonly=True)
            found[name] = number(session, "UIDVALIDITY")
    return found


def stays(before: dict[str, tuple[int, list[int]]], now: dict[str, tuple[int, list[int]]]) -> None:
    for name, (validity, messages) in before.items():
        assert now[name][0] == validity and set(messages) <= set(now[name][1]), (name, before[name], now[name])


@pytest.mark.parametrize("kinds", [("burning", "burning"), *[("dovecot", "burning")] * LONG], ids="-".join)
def test_moves_there_and_back(
    make_cluster: Callable[..., Cluster], make_home: Callable[..., Any], kinds: tuple[str, str]
) -> None:
    cluster = make_cluster(make_home(kinds[0], "a"), make_home(kinds[1], "b"), make_home("node", "c"), lives=["a"],
                           people=1)
    (ann,) = cluster.people
    fill(cluster, ann)
    before, popped = known(cluster, ann), uidls(cluster, ann)
    assert not shown(cluster, ann)

    cluster.edge.run("account", "move", ann, "--to", "b", "--wait")
    stays(before, known(cluster, ann))
    assert shown(cluster, ann)
    own = at_server(cluster, "b", ann)
    assert all(own[name] != before[name][0] for name in own), "b has values of its own"
    assert uidls(cluster, ann) == popped
    uidplus(cluster, ann)
    with client(cluster, ann) as session:  # made at b, and made anew: as b says, and never what was before
        session.delete("Sent")
        session.create("Sent")
        session.select("Sent")
        made = number(session, "UIDVALIDITY")
        assert made > before["Sent"][0]
    uidplus(cluster, ann)
    before = known(cluster, ann)
    assert before["Sent"][0] == made

    cluster.edge.run("account", "move", ann, "--to", "c", "--wait")
    stays(before, known(cluster, ann))
    own = at_server(cluster, "c", ann)
    assert all(own[name] == before[name][0] for name in own), "c was given them"

    cluster.edge.run("account", "move", ann, "--to", "b", "--wait")
    stays(before, known(cluster, ann))
    cluster.edge.run("account", "move", ann, "--to", "a", "--drop", "--wait")
    stays(before, known(cluster, ann))
    assert set(popped) <= set(uidls(cluster, ann))


def test_a_failover_and_the_way_back(make_cluster: Callable[..., Cluster], make_home: Callable[..., Any]) -> None:
    cluster = make_cluster(make_home("burning", "a"), make_home("burning", "b"), lives=["a"], replicas={"a": "b"},
                           people=1, extra={"failover": {"automatic": True}})
    (ann,) = cluster.people
    fill(cluster, ann)
    await_whole(cluster)
    before, popped = known(cluster, ann), uidls(cluster, ann)
    remembered = modseq(cluster, ann)
    assert remembered
    await_whole(cluster)
    cluster.homes["a"].lab.kill()
    log_in(cluster, ann).logout()
    assert home(cluster, ann)[0] == "b"
    assert known(cluster, ann) == before
    assert uidls(cluster, ann) == popped
    uidplus(cluster, ann)
    assert not modseq(cluster, ann), "b counts otherwise"
    with client(cluster, ann) as session:
        session.select("INBOX")
        session.uid("STORE", "2", "+FLAGS", "(\\Flagged)")
    send(cluster, ann, text="later")
    cluster.await_quiet()
    after = known(cluster, ann)
    stays(before, after)

    cluster.homes["a"].lab.start()
    wait_until(lambda: not failover(cluster)["unreturned"] and not failover(cluster)["pending"], "the return", 60)
    await_whole(cluster)
    cluster.edge.run("server", "promote", "b")
    wait_until(lambda: not failover(cluster)["unreturned"] and not failover(cluster)["pending"], "the way back", 60)
    assert home(cluster, ann)[0] == "a"
    assert known(cluster, ann) == after
    assert not shown(cluster, ann), "back where it began nothing is rewritten"
    assert modseq(cluster, ann) > remembered
    missed = {2, *set(after["INBOX"][1]) - set(before["INBOX"][1])}
    assert changed_since(cluster, ann, after["INBOX"][0], remembered) == missed
