"""Several sessions hammer one folder, in every order that hypothesis thinks of, beside a model of what must be there;
caches are closed and opened again at any time, and a replica follows."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from onedomain.node.store import expunges
from onedomain.node.store.verify import verify
from tests.node.cache import Cache, fresh, parse_set
from tests.node.lab import Imap, imap, lmtp, message, start_node
from tests.node.replica import Link, ask, link_log_in

T = TypeVar("T")

LONG = os.environ.get("ONEDOMAIN_LONG") == "1"
SESSIONS = 3
FLAGS = ["\\Seen", "\\Flagged", "\\Deleted", "work", "$Later"]
who = st.integers(0, SESSIONS - 1)
picks = st.lists(st.integers(0, 30), min_size=1, max_size=4)


class Hammered(RuleBasedStateMachine):
    """`model`: flags by UID of what is in f. Each session has a cache of its own; a look makes it equal the model."""

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
        await self.judge("CREATE f")
        self.sessions: list[Imap] = []
        self.caches = [Cache("f") for _ in range(SESSIONS)]
        for cache in self.caches:
            self.sessions.append(await imap(self.node))
            await self.sessions[-1]("ENABLE QRESYNC")
            await cache.open(self.sessions[-1])
        self.model: dict[int, frozenset[bytes]] = {}
        self.uidnext = 1
        self.modseq = 1
        self.mail = await lmtp(self.node)

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    def say(self, session: int, command: str | bytes) -> bytes:
        """The tagged answer; all others go to the session's cache."""
        *lines, tagged = self.do(self.sessions[session](command))
        self.caches[session].told(lines)
        return tagged

    def known(self, session: int, picked: list[int]) -> str:
        """Some of the UIDs that the session knows, as a set."""
        uids = [uid for uid in self.caches[session].order if uid is not None]
        return ",".join(str(uids[pick % len(uids)]) for pick in dict.fromkeys(picked)) if uids else ""

    def named(self, uids: str) -> list[int]:
        return [uid for uid in dict.fromkeys(map(int, uids.split(","))) if uid in self.model]

    @rule(session=who, count=st.integers(1, 4), flags=st.sets(st.sampled_from(FLAGS)))
    def append(self, session: int, count: int, flags: set[str]) -> None:
        each = f" ({' '.join(flags)}) {{1+}}\r\nx"
        tagged = self.say(session, "APPEND f" + each * count)
        assert re.match(rb"OK \[APPENDUID \d+ %d" % self.uidnext, tagged)
        for uid in range(self.uidnext, self.uidnext + count):
            self.model[uid] = frozenset(flag.encode() for flag in flags)
        self.uidnext += count

    @rule(session=who, picked=picks, flag=st.sampled_from(FLAGS), mode=st.sampled_from(["+", "-", ""]),
          silent=st.booleans())  # fmt: skip
    def store(self, session: int, picked: list[int], flag: str, mode: str, silent: bool) -> None:
        uids = self.known(session, picked)
        if not uids:
            return
        tagged = self.say(session, f"UID STORE {uids} {mode}FLAGS{'.SILENT' if silent else ''} ({flag})")
        assert tagged == b"OK Store completed"
        for uid in self.named(uids):
            given = frozenset({flag.encode()})
            before = self.model[uid]
            self.model[uid] = before | given if mode == "+" else before - given if mode else given
            if silent and uid in self.caches[session].flags:
                self.caches[session].flags[uid] = self.model[uid]  # what it has said itself it is not told

    @rule(session=who, picked=picks, flag=st.sampled_from(FLAGS))
    def store_unless_changed(self, session: int, picked: list[int], flag: str) -> None:
        """Nothing that the session has not seen is overwritten."""
        uids = self.known(session, picked)
        if not uids:
            return
        cache = self.caches[session]
        seen = {uid: cache.flags.get(uid) for uid in self.named(uids)}
        tagged = self.say(session, f"UID STORE {uids} (UNCHANGEDSINCE {cache.modseq}) +FLAGS ({flag})")
        refused = re.search(rb"\[MODIFIED (\S+)\]", tagged)
        changed = set(parse_set(refused[1])) if refused else set()
        for uid, flags in seen.items():
            if uid not in changed:
                assert self.model[uid] == flags, "overwritten unseen"
                self.model[uid] |= {flag.encode()}

    @rule(session=who)
    def expunge(self, session: int) -> None:
        self.say(session, "NOOP")
        self.say(session, "EXPUNGE")
        self.model = {uid: flags for uid, flags in self.model.items() if b"\\Deleted" not in flags}

    @rule(session=who, picked=picks)
    def copy(self, session: int, picked: list[int]) -> None:
        uids = self.known(session, picked)
        if not uids:
            return
        self.say(session, f"UID COPY {uids} f")
        for uid in sorted(self.named(uids)):
            self.model[self.uidnext] = self.model[uid]
            self.uidnext += 1

    @rule(session=who, picked=picks)
    def move(self, session: int, picked: list[int]) -> None:
        uids = self.known(session, picked)
        if not uids:
            return
        named = self.named(uids)
        self.say(session, f"UID MOVE {uids} Trash")
        for uid in named:
            del self.model[uid]

    @rule(session=who, picked=picks)
    def fetch_by_number(self, session: int, picked: list[int]) -> None:
        """Expunges of others are held back: the numbers still name what they named."""
        count = len(self.caches[session].order)
        if count:
            self.say(session, f"FETCH {','.join(str(pick % count + 1) for pick in picked)} (UID FLAGS)")

    @rule(session=who)
    def look(self, session: int) -> None:
        cache = self.caches[session]
        self.do(cache.look(self.sessions[session]))
        assert cache.flags == self.model
        assert cache.order == sorted(self.model)

    @rule(session=who, cut=st.booleans())
    def come_back(self, session: int, cut: bool) -> None:
        """With the modseq of the last time and the flags of then, on a new connection or the old one."""
        cache = self.caches[session]
        if cut:
            self.do(self.sessions[session].close())
            self.sessions[session] = self.do(imap(self.node))
            self.do(self.sessions[session]("ENABLE QRESYNC"))
        self.do(cache.open(self.sessions[session]))
        assert cache.flags == self.model
        assert cache.order == sorted(self.model)
        assert cache.modseq >= self.modseq
        self.modseq = cache.modseq

    @rule(keep=st.integers(0, 3))
    def forget(self, keep: int) -> None:
        """The memory of expunges is cut; those who come back learn the same."""
        before = (expunges.MOST, expunges.KEPT)
        expunges.MOST, expunges.KEPT = keep + 1, keep
        try:
            self.do(self.node.store.write(expunges.forget))
        finally:
            expunges.MOST, expunges.KEPT = before

    @rule()
    def deliver(self) -> None:
        self.do(self.mail.deliver(message(1), "u@example.com"))

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
        # A client that was at the one is right at the other after its usual way back
        client = await imap(self.replica)
        await client("ENABLE QRESYNC")
        cache = self.caches[0]
        moved = Cache("f", cache.uidvalidity, cache.modseq, dict(cache.flags), list(cache.order))
        await moved.open(client)
        assert moved.flags == self.model
        await client.close()

    @invariant()
    def the_node_agrees(self) -> None:
        if hasattr(self, "judge"):
            assert self.do(fresh(self.judge, "f")) == self.model

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
    max_examples=100 if LONG else 6, stateful_step_count=50 if LONG else 25, deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)  # fmt: skip
TestHammered = Hammered.TestCase
