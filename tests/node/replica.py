"""A link between two nodes in a hundred lines: what the protocol has to be good for. Knows nothing of pytest."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from tests.node.lab import Imap

FOLDER = re.compile(rb'\* XLINK FOLDER ("[^"]*") (\S+) (\d+) (.+) (\d+) (\d+) (NIL|"[^"]*")')
MESSAGE = re.compile(
    rb"\* XLINK MESSAGE (\d+) (\d+) (-?\d+) (\([^)]*\)) (\d+) ([0-9a-f]{64}) (\S+)(?: \{\d+\}\r\n(.*))?", re.DOTALL
)
LARGEST = 4096


class Refused(Exception):
    """The tagged line."""


async def link_log_in(address: tuple[str, int]) -> Imap:
    client = await Imap.open(address)
    assert isinstance(client, Imap)
    await client.line()
    assert (await client("LOGIN replica secret"))[-1].startswith(b"OK [CAPABILITY IMAP4rev1 ")
    return client


async def ask(client: Imap, command: bytes) -> list[bytes]:
    *lines, tagged = await client(b"XLINK " + command)
    if not tagged.startswith(b"OK "):
        raise Refused(tagged.decode())
    return lines


@dataclass
class Link:
    """What a link has to remember is `node`, `commit` and per folder how far it has come."""

    primary: Imap
    replica: Imap
    commit: int = 0
    node: bytes = b""
    come: dict[bytes, int] = field(default_factory=dict)

    async def run(self) -> None:
        """Everything that has changed since the last time."""
        *lines, last = await ask(self.primary, b"CHANGES %d" % self.commit)
        _, _, _, node, commit = last.split()
        assert self.node in (b"", node)
        listed: dict[bytes, set[bytes]] = {}
        for line in lines:
            if line.startswith(b"* XLINK ACCOUNT "):
                account, _, names = line[16:].partition(b" ")
                listed[account] = set()
                await ask(self.replica, b"ACCOUNT " + account)
                await ask(self.replica, b"SUBSCRIPTIONS " + account + b" " + names)
        given = [found.groups() for line in lines if (found := FOLDER.match(line)) is not None]
        for account, mailbox_id, *_ in given:
            if account in listed:
                listed[account].add(mailbox_id)
        for account, there in listed.items():
            await self._drop_others(account, there)
        for account, mailbox_id, validity, name, *_, use in given:
            await self._name(account, mailbox_id, validity, name, use)
        for account, mailbox_id, validity, *_ in given:
            await self._follow(account + b" " + mailbox_id + b" " + validity)
        self.node, self.commit = node, int(commit)

    async def _drop_others(self, account: bytes, there: set[bytes]) -> None:
        for line in await ask(self.replica, b"CHANGES 0 (" + account + b")"):
            found = FOLDER.match(line)
            if found is not None and found[2] not in there and found[4] != b"INBOX":
                await ask(self.replica, b"DELETE " + b" ".join(found.groups()[:3]))

    async def _name(self, account: bytes, mailbox_id: bytes, validity: bytes, name: bytes, use: bytes) -> None:
        give = b"FOLDER %b %b %b %%b 1 1 %b" % (account, mailbox_id, validity, use)
        try:
            await ask(self.replica, give % name)
        except Refused as refused:
            # Two names have changed places: the other one steps aside, and comes to its own name in its turn
            other = re.match(r"NO \[MAILBOXID \((\S+)\)\]", str(refused))
            assert other is not None, refused
            folders = [found.groups() for line in await ask(self.replica, b"CHANGES 0 (" + account + b")")
                       if (found := FOLDER.match(line)) is not None]
            there = next(groups for groups in folders if groups[1] == other[1].encode())
            await ask(self.replica, b"FOLDER %b %b %b aside-%b 1 1 NIL" % (*there[:3], there[1]))
            await ask(self.replica, give % name)

    async def _follow(self, folder: bytes) -> None:
        since = self.come.get(folder, 0)
        state, *lines = await ask(self.primary, b"MESSAGES %b %d (BODIES 1 %d)" % (folder, since, LARGEST))
        found = FOLDER.match(state)
        assert found is not None
        new: list[bytes] = []
        vanished = b""
        flags: list[bytes] = []
        without: dict[bytes, bytes] = {}
        for line in lines:
            message = MESSAGE.match(line)
            if message is None:
                vanished = line.removeprefix(b"* XLINK VANISHED ")
                continue
            uid, modseq, date, flagged, size, _, delivery, body = message.groups()
            given = b"(%b %b %b %b %b)" % (uid, modseq, date, flagged, delivery)
            if int(size) > LARGEST:
                without[uid] = given
            else:
                new.append(b" %b {%d+}\r\n%b" % (given, len(body), body))
            flags.append(b" (%b %b %b)" % (uid, modseq, flagged))
        if without:
            for line in await ask(self.primary, b"BODIES %b %b" % (folder, b",".join(without))):
                message = MESSAGE.match(line)
                assert message is not None
                body = message[8]
                new.append(b" %b {%d+}\r\n%b" % (without[message[1]], len(body), body))
        if vanished:
            await ask(self.replica, b"EXPUNGE %b (%b %b)" % (folder, vanished, found[6]))
        if new:
            await ask(self.replica, b"APPEND " + folder + b"".join(new))
        await ask(self.replica, b"FOLDER %b %b %b %b %b %b %b" % found.groups())
        self.come[folder] = int(found[6])
