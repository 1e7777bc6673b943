"""Several sessions hammer some folders, in every order that hypothesis thinks of, beside a model of what must be there:
which message under which UID, with which flags. Caches are closed and opened again at any time, folders change their
names and are made anew, and a replica follows.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import tempfile
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from onedomain.node.store import expunges
from onedomain.node.store.verify import verify
from tests.node.cache import Cache, parse_set
from tests.node.lab import Imap, imap, lmtp, start_node
from tests.node.replica import Link, ask, link_log_in

T = TypeVar("T")

LONG = os.environ.get("ONEDOMAIN_LONG") == "1"
SESSIONS = 3
FOLDERS = ("f", "g", "INBOX")
G = FOLDERS.index("g")
FLAGS = ["\\Seen", "\\Flagged", "\\Deleted", "work", "$Later"]
who = st.integers(0, SESSIONS - 1)
where = st.integers(0, len(FOLDERS) - 1)
picks = st.lists(st.integers(0, 30), min_size=1, max_size=4)


@dataclass
class Folder:
    """What has to be there: `flags` and `tokens` (which message it is) by UID."""

    name: str
    flags: dict[int, frozenset[bytes]] = field(default_factory=dict)
    tokens: dict[int, int] = field(default_factory=dict)
    uidnext: int = 1
    modseq: int = 1
    validity: int = 0

    def add(self, token: int, flags: frozenset[bytes] = frozenset()) -> None:
        self.flags[self.uidnext], self.tokens[self.uidnext] = flags, token
        self.uidnext += 1

    def remove(self, uid: int) -> int:
        del self.flags[uid]
        return self.tokens.pop(uid)


async def contents(client: Imap, name: str) -> dict[int, tuple[frozenset[bytes], int]]:
    """The truth, asked for without any cache: flags and token by UID."""
    await client(f"EXAMINE {name}")
    found = {}
    for line in await client("UID FETCH 1:* (UID FLAGS BODY.PEEK[])"):
        if b" FETCH (" in line:
            uid, flags, token = (re.search(each, line) for each in (
                rb"UID (\d+)", rb"FLAGS \(([^)]*)\)", rb"token-(\d+);"))
            assert uid and flags and token, line
            found[int(uid[1])] = frozenset(flags[1].split()) - {b"\\Recent"}, int(token[1])
    return found


class Hammered(RuleBasedStateMachine):
    """Each session has a folder open and remembers a cache of each; a look makes it equal the model."""

    @initialize()
    def begin(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.folder = Path(tempfile.mkdtemp())
        self.do(self._begin())

    async def _begin(self) -> None:
        secret = {"replication_user": "replica", "replication_password": "secret"}
        self.node = await start_node(self.folder / "node", **secret)
        self.replica = await start_node(self.folder / "replica", **secret)
        self.link = Link(await link_log_in(self.node.addresses["imap"][0]),
                         await link_log_in(self.replica.addresses["imap"][0]))  # fmt: skip
        self.judge = await imap(self.node)
        for name in FOLDERS[:-1]:
            await self.judge(f"CREATE {name}")
        self.folders = [Folder(name) for name in FOLDERS]
        self.token = self.names = 0
        for folder in self.folders[:-1]:
            for _ in range(4):
                text = f"token-{self.new_token()};"
                await self.judge(f"APPEND {folder.name} {{{len(text)}+}}\r\n{text}")
                folder.add(self.token)
        self.sessions: list[Imap] = []
        self.caches = [[Cache(name) for name in FOLDERS] for _ in range(SESSIONS)]
        self.at = [0] * SESSIONS
        for caches in self.caches:
            self.sessions.append(await imap(self.node))
            await self.sessions[-1]("ENABLE QRESYNC")
            await caches[0].open(self.sessions[-1])
        self.mail = await lmtp(self.node)

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    def open_in(self, session: int) -> tuple[Folder, Cache]:
        at = self.at[session]
        return self.folders[at], self.caches[session][at]

    def say(self, session: int, command: str | bytes) -> bytes:
        """The tagged answer; all others go to the session's cache."""
        *lines, tagged = self.do(self.sessions[session](command))
        self.open_in(session)[1].told(lines)
        return tagged

    def known(self, session: int, picked: list[int]) -> str:
        """Some of the UIDs that the session knows, as a set."""
        uids = [uid for uid in self.open_in(session)[1].order if uid is not None]
        return ",".join(str(uids[pick % len(uids)]) for pick in dict.fromkeys(picked)) if uids else ""

    def named(self, session: int, uids: str) -> list[int]:
        """Those that are there."""
        return [uid for uid in dict.fromkeys(map(int, uids.split(","))) if uid in self.open_in(session)[0].flags]

    def new_token(self) -> int:
        self.token += 1
        return self.token

    @rule(session=who, to=where, count=st.integers(1, 4), flags=st.sets(st.sampled_from(FLAGS)))
    def append(self, session: int, to: int, count: int, flags: set[str]) -> None:
        folder = self.folders[to]
        command, first = f"APPEND {folder.name}", folder.uidnext
        for _ in range(count):
            text = f"token-{self.new_token()};"
            command += f" ({' '.join(flags)}) {{{len(text)}+}}\r\n{text}"
            folder.add(self.token, frozenset(flag.encode() for flag in flags))
        assert re.match(rb"OK \[APPENDUID \d+ %d" % first, self.say(session, command))

    @rule(session=who, picked=picks, flag=st.sampled_from(FLAGS), mode=st.sampled_from(["+", "-", ""]),
          silent=st.booleans())  # fmt: skip
    def store(self, session: int, picked: list[int], flag: str, mode: str, silent: bool) -> None:
        uids = self.known(session, picked)
        if not uids:
            return
        tagged = self.say(session, f"UID STORE {uids} {mode}FLAGS{'.SILENT' if silent else ''} ({flag})")
        assert tagged == b"OK Store completed"
        folder, cache = self.open_in(session)
        for uid in self.named(session, uids):
            given = frozenset({flag.encode()})
            before = folder.flags[uid]
            folder.flags[uid] = before | given if mode == "+" else before - given if mode else given
            if silent and uid in cache.flags:
                cache.flags[uid] = folder.flags[uid]  # what it has said itself it is not told

    @rule(session=who, picked=picks, flag=st.sampled_from(FLAGS))
    def store_unless_changed(self, session: int, picked: list[int], flag: str) -> None:
        """Nothing that the session has not seen is overwritten."""
        uids = self.known(session, picked)
        if not uids:
            return
        folder, cache = self.open_in(session)
        seen = {uid: cache.flags.get(uid) for uid in self.named(session, uids)}
        tagged = self.say(session, f"UID STORE {uids} (UNCHANGEDSINCE {cache.modseq}) +FLAGS ({flag})")
        refused = re.search(rb"\[MODIFIED (\S+)\]", tagged)
        changed = set(parse_set(refused[1])) if refused else set()
        for uid, flags in seen.items():
            if uid not in changed:
                assert folder.flags[uid] == flags, "overwritten unseen"
                folder.flags[uid] |= {flag.encode()}

    @rule(session=who)
    def expunge(self, session: int) -> None:
        self.say(session, "NOOP")
        self.say(session, "EXPUNGE")
        folder, _ = self.open_in(session)
        for uid in [uid for uid, flags in folder.flags.items() if b"\\Deleted" in flags]:
            folder.remove(uid)

    @rule(session=who, picked=picks, to=where)
    def copy(self, session: int, picked: list[int], to: int) -> None:
        uids = self.known(session, picked)
        if not uids:
            return
        self.say(session, f"UID COPY {uids} {self.folders[to].name}")
        folder, _ = self.open_in(session)
        for uid in sorted(self.named(session, uids)):
            self.folders[to].add(folder.tokens[uid], folder.flags[uid])

    @rule(session=who, picked=picks, further=st.integers(1, len(FOLDERS) - 1))
    def move(self, session: int, picked: list[int], further: int) -> None:
        uids = self.known(session, picked)
        if not uids:
            return
        to = self.folders[(self.at[session] + further) % len(FOLDERS)]
        folder, _ = self.open_in(session)
        named = sorted(self.named(session, uids))
        self.say(session, f"UID MOVE {uids} {to.name}")
        for uid in named:
            flags = folder.flags[uid]
            to.add(folder.remove(uid), flags)

    @rule(session=who, picked=picks)
    def fetch_by_number(self, session: int, picked: list[int]) -> None:
        """Expunges of others are held back: the numbers still name what they named."""
        count = len(self.open_in(session)[1].order)
        if count:
            self.say(session, f"FETCH {','.join(str(pick % count + 1) for pick in picked)} (UID FLAGS)")

    @rule(session=who)
    def look(self, session: int) -> None:
        folder, cache = self.open_in(session)
        self.do(cache.look(self.sessions[session]))
        assert cache.flags == folder.flags
        assert cache.order == sorted(folder.flags)

    @rule(session=who, to=where, cut=st.booleans())
    def come_back(self, session: int, to: int, cut: bool) -> None:
        """To a folder, with the modseq of the last time there and the flags of then, on a new connection or the old."""
        if cut:
            self.do(self.sessions[session].close())
            self.sessions[session] = self.do(imap(self.node))
            self.do(self.sessions[session]("ENABLE QRESYNC"))
        else:
            self.look(session)
        self.at[session] = to
        folder, cache = self.open_in(session)
        self.do(cache.open(self.sessions[session]))
        assert cache.flags == folder.flags
        assert cache.order == sorted(folder.flags)
        assert cache.modseq >= folder.modseq and cache.uidvalidity >= folder.validity
        folder.modseq, folder.validity = cache.modseq, cache.uidvalidity

    @rule()
    def rename(self) -> None:
        """Whoever has it open goes on; messages and UIDs stay as they are."""
        self.names += 1
        now = f"g{self.names}"
        assert self.do(self.judge(f"RENAME {self.folders[G].name} {now}"))[-1].startswith(b"OK ")
        self.folders[G].name = now
        for caches in self.caches:
            caches[G].name = now

    @rule(again=st.booleans())
    def made_anew(self, again: bool) -> None:
        """Another folder of the same name is never taken for the one that was there, nor are its UIDs."""
        for session in range(SESSIONS):
            if self.at[session] == G:
                self.come_back(session, 0, False)
        before = self.folders[G]
        for command in ("DELETE", "CREATE"):
            assert self.do(self.judge(f"{command} {before.name}"))[-1].startswith(b"OK ")
        self.folders[G] = Folder(before.name, validity=before.validity + 1 if before.validity else 0)
        if again:
            self.come_back(0, G, False)

    @rule(keep=st.integers(0, 3))
    def forget(self, keep: int) -> None:
        """The memory of expunges is cut; those who come back learn the same."""
        before = (expunges.MOST, expunges.KEPT)
        expunges.MOST, expunges.KEPT = keep + 1, keep
        try:
            self.do(self.node.store.write(expunges.forget))
        finally:
            expunges.MOST, expunges.KEPT = before

    @rule(twice=st.booleans())
    def deliver(self, twice: bool) -> None:
        """What comes again under the same delivery id is there once, wherever it is by now."""
        token = self.new_token()
        text = b"X-OneDomain-Delivery: 0d%dx\r\nSubject: s\r\n\r\ntoken-%d;\r\n" % (token, token)
        for _ in range(1 + twice):
            [reply] = self.do(self.mail.deliver(text, "u@example.com"))
            assert reply.startswith(b"250 "), reply
        self.folders[-1].add(token)

    @precondition(lambda self: hasattr(self, "link"))
    @rule()
    def replicate(self) -> None:
        self.do(self._replicate())

    async def _replicate(self) -> None:
        await self.link.run()
        ours, theirs = [await ask(end, b"CHANGES 0") for end in (self.link.primary, self.link.replica)]
        assert ours[:-1] == theirs[:-1]
        for line in ours[:-1]:
            if b"* XLINK FOLDER" in line:
                folder = b"MESSAGES " + b" ".join(line.split()[3:6]) + b" 0"
                lines = [await ask(end, folder) for end in (self.link.primary, self.link.replica)]
                assert [x for x in lines[0] if b"VANISHED" not in x] == [x for x in lines[1] if b"VANISHED" not in x]
        client = await imap(self.replica)
        for each in self.folders:
            assert await contents(client, each.name) == self.expected(each)
        # A client that was at the one is right at the other after its usual way back
        await client("ENABLE QRESYNC")
        folder, cache = self.open_in(0)
        moved = Cache(folder.name, cache.uidvalidity, cache.modseq, dict(cache.flags), list(cache.order))
        await moved.open(client)
        assert moved.flags == folder.flags
        await client.close()

    @staticmethod
    def expected(folder: Folder) -> dict[int, tuple[frozenset[bytes], int]]:
        return {uid: (flags, folder.tokens[uid]) for uid, flags in folder.flags.items()}

    @invariant()
    def the_node_agrees(self) -> None:
        if hasattr(self, "judge"):
            for folder in self.folders:
                assert self.do(contents(self.judge, folder.name)) == self.expected(folder), folder.name

    def teardown(self) -> None:
        if not hasattr(self, "loop"):
            return
        self.do(self._end())
        self.loop.close()
        findings = [verify(self.folder / name).findings for name in ("node", "replica")]
        shutil.rmtree(self.folder)
        assert findings == [(), ()]

    async def _end(self) -> None:
        for client in (*self.sessions, self.judge, self.mail, self.link.primary, self.link.replica):
            await client.close()
        await self.node.close()
        await self.replica.close()


Hammered.TestCase.settings = settings(
    max_examples=100 if LONG else 15, stateful_step_count=50 if LONG else 30, deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)  # fmt: skip
TestHammered = Hammered.TestCase
