"""Simulated servers against real ones: the same random questions to both, and the same answers from both.

Both are asked through the contract of links (backend/link/base.py), the real ones by our drivers. UIDVALIDITYs,
identities and MODSEQs have other values on either side: those that were equal once stay so, and MODSEQs grow together.

    ONEDOMAIN_SEEDS=200 pytest tests/simulation/test_compare.py     # seeds per kind
    ONEDOMAIN_SEED=17 pytest tests/simulation/test_compare.py       # just the one that failed
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from onedomain.backend.link.base import Letter, LinkEnd
from onedomain.decision.link.actions import Raise, Refused, Rows
from onedomain.model.failure import Failed
from onedomain.model.message import DELIVERY_ID_HEADER
from onedomain.model.replica import Folder, Mark, Numbering
from tests.backend.contract import account
from tests.backend.link.mailbox import client, done, expunge, quote
from tests.backend.link.test_given import cyrus_server
from tests.backend.link.test_pairs import Place, make_link_server, tools
from tests.backend.link.test_pairs import places as places  # a fixture

from .ends import ServerEnd
from .seeds import seeds
from .server import TRAITS, No, Server, Traits

STEPS = 40
DATE = 1_763_000_000
FLAGS = ("\\Seen", "\\Flagged", "\\Deleted", "\\Answered", "\\Draft", "$Label1", "Work")
NAMES = ("Lists", "Archive", "Old", "A_b", "&ZeVnLIqe-")


class Both:
    """A simulated end and a real one. Every answer is compared here; callers see the simulated one's."""

    def __init__(self, seed: int, simulated: LinkEnd, real: LinkEnd, place: Place, user: str,
                 again: Callable[[], Awaitable[LinkEnd]]) -> None:
        self.random = random.Random(seed)
        self.simulated, self.real, self.place = simulated, real, place
        self.user, self.again = user, again
        self.label = f"seed {seed}"
        # What is said again to a node is a change with a MODSEQ of its own, and no UID is too strange to have vanished.
        # To Cyrus RENAME is a change of the folder.
        self.generous = place.lab.kind in ("node", "cyrus")
        self.log: list[str] = []
        self.same: dict[tuple[str, object], object] = {}
        self.before: dict[str, tuple[Mark, Mark]] = {}
        self.checkpoints: list[tuple[str, int, int]] = []
        self.fixed: frozenset[str] = frozenset({"INBOX"})
        self.number = self.raised = 0
        self.deleted: set[str] = set()

    async def ask(self, question: str, *words: Any) -> Any:
        """The same of both. Raises Failed where both do."""
        self.log.append(f"{question} {words!r:.200}")
        answers: list[Any] = []
        for end in (self.simulated, self.real):
            try:
                answers.append(await getattr(end, question)(*words))
            except Failed as failed:
                answers.append(failed)
        one, other = answers
        if isinstance(one, Failed) or isinstance(other, Failed):
            both = isinstance(one, Failed) and isinstance(other, Failed)
            assert both, self.say(f"{one!r} and {getattr(getattr(other, 'failure', other), 'reason', other)!r}")
            raise one
        self.check(question, one, other)
        return one

    def say(self, what: str) -> str:
        return "\n".join([self.label, *self.log[-8:], what])

    def check(self, question: str, one: Any, other: Any) -> None:
        if isinstance(one, Rows):
            self.check_mark("", one.before, other.before)
            more_rows = question == "since" and self.generous
            assert one.rows == other.rows or (more_rows and set(one.rows) <= set(other.rows)), self.say(
                f"{one.rows} {other.rows}"
            )
            assert set(one.vanished) <= set(other.vanished), self.say(f"vanished {one.vanished} {other.vanished}")
            more = set(other.vanished) - set(one.vanished)  # a UID that was never there may vanish, too
            assert not more or self.generous, self.say(f"vanished {one.vanished} {other.vanished}")
            assert not more & {row.uid for row in one.rows}, self.say(f"vanished {more}")
            assert (one.after > one.before.modseq) == (other.after > other.before.modseq), self.say("after")
        elif isinstance(one, Mark):
            self.check_mark("", one, other)
        elif question == "append":
            answers = [[replace(each, reason="") if isinstance(each, Refused) else each for each in side]
                       for side in (one, other)]  # fmt: skip
            assert answers[0] == answers[1], self.say(f"append: {one} {other}")
        elif question == "find" and self.place.lab.kind == "node":
            assert one <= other, self.say(f"find: {one} {other}")  # a node also tells what it had once
        else:
            assert one == other, self.say(f"{question}: {one} {other}")

    def check_mark(self, name: str, one: Mark, other: Mark) -> None:
        self.pair("uidvalidity", one.uidvalidity, other.uidvalidity)
        assert (one.uidnext, one.messages) == (other.uidnext, other.messages), self.say(f"{name}: {one} {other}")
        assert (one.modseq > 0) == (other.modseq > 0), self.say(f"{name}: {one} {other}")

    def pair(self, what: str, one: object, other: object) -> None:
        """Two folders may have the same UIDVALIDITY where there it is the time; nothing is the same here only."""
        assert self.same.setdefault((what, one), other) == other, self.say(f"{what} {one} {other}")
        if what == "identity":
            assert self.same.setdefault(("real", other), one) == one, self.say(f"{what} {one} {other}")

    async def list_folders(self) -> dict[str, Folder]:
        here = await self.simulated.list_folders()
        try:
            there = await self.real.list_folders()
        except Failed:
            # Dovecot ends a session ("state is inconsistent") when a folder is made anew within the second in which it
            # was deleted: its UIDVALIDITY is the time. A link begins anew then, too.
            await self.real.close(broken=True)
            self.real = await self.again()
            there = await self.real.list_folders()
        one = {folder.name: folder for folder in here.folders}
        other = {folder.name: folder for folder in there.folders}
        assert (here.separator, here.prefix) == (there.separator, there.prefix)
        assert one.keys() == other.keys(), self.say(f"{sorted(one)} {sorted(other)}")
        marks: dict[str, tuple[Mark, Mark]] = {}
        for name, folder in one.items():
            self.check_mark(name, folder.mark, other[name].mark)
            assert bool(folder.identity) == bool(other[name].identity), self.say("identity")
            if folder.identity:
                self.pair("identity", folder.identity, other[name].identity)
            now = (folder.special_use, folder.subscribed)
            assert now == (other[name].special_use, other[name].subscribed), self.say(f"{name}: {folder} {other[name]}")
            key = folder.identity or name
            marks[key] = folder.mark, other[name].mark
            was = self.before.get(key, marks[key])
            if was[0].uidvalidity == folder.mark.uidvalidity:
                steps = [now.modseq - before.modseq for now, before in zip(marks[key], was, strict=True)]
                same = min(steps) >= 0 and (steps[0] > 0) == (steps[1] > 0)
                same = same or (self.generous and not steps[0])
                assert same, self.say(f"{name}: MODSEQ {was} {marks[key]}")
            self.checkpoints.append((key, folder.mark.modseq, other[name].mark.modseq))
        self.before = marks
        return one

    # ---- what may happen

    def letters(self, folder: Folder) -> list[Letter]:
        given = self.simulated.powers.numbering is Numbering.GIVEN
        uid = folder.mark.uidnext
        some = []
        for _ in range(self.random.choice((1, 1, 2, 5))):
            self.number += 1
            raw = (
                f"Date: Sat, 21 Nov 2026 22:00:00 +0900\r\nMessage-ID: <{self.number}@o.example>\r\n"
                f"{DELIVERY_ID_HEADER}: 0d{self.number}x\r\nSubject: {self.number}\r\n\r\nbody {self.number}\r\n"
            ).encode()
            if self.random.random() < 0.1:
                raw = raw.replace(b"Subject: ", b"Subject: \x90\xbf\x8b\x81")
            if self.random.random() < 0.05:
                raw += b"\0 is here\r\n"
            uid += self.random.choice((0, 0, 0, 7)) if given else 0
            some.append(Letter(uid if given else 0, self.flags(), DATE + self.number, raw))
            uid += 1
        return some

    def deletable(self, name: str) -> bool:
        """Cyrus keeps what is deleted under its name and the second: another of that name is refused until later."""
        again = name in self.deleted and self.place.lab.kind == "cyrus"
        self.deleted.add(name)
        return name not in self.fixed and not again

    def flags(self) -> frozenset[str]:
        return frozenset(self.random.sample(FLAGS, self.random.randrange(4)))

    def fresh_name(self) -> str:
        """Cyrus makes folders of what lies above a new name, too."""
        deep = self.place.lab.kind != "cyrus"
        return self.place.path(*self.random.sample(NAMES, self.random.choice((1, 1, 2)) if deep else 1))

    async def act(self, folders: dict[str, Folder]) -> None:
        dice = self.random.random()
        name = self.random.choice(sorted(folders))
        folder = folders[name]
        rows = (await self.ask("read", name)).rows
        uids = [row.uid for row in rows]
        some = sorted(self.random.sample(uids, min(len(uids), self.random.choice((1, 1, 2, 5)))))
        # A node takes note of what was expunged without ever having been there.
        absent = [folder.mark.uidnext + 7] if self.place.lab.kind != "node" else []
        if dice < 0.35:
            await self.ask("append", name, self.letters(folder))
        elif dice < 0.5:
            await self.ask("set_flags", name, [*some, *absent], self.flags())
        elif dice < 0.6 and self.simulated.powers.names_uids:
            await self.ask("expunge", name, [*some, *absent])
        elif dice < 0.65 and self.simulated.powers.numbering is not Numbering.GIVEN:
            await self.ask("expunge_deleted", name)
        elif dice < 0.72:
            validity = self.random.choice((0, 0, 1_700_000_000 + self.random.randrange(1000)))
            # Cyrus makes an empty folder anew for another UIDVALIDITY, with another identity.
            again = 0 if self.place.lab.kind == "cyrus" else validity
            if self.random.random() < 0.5:
                await self.ask("create_folder", name, again)
            else:
                fresh = self.fresh_name()
                await self.ask("create_folder", fresh, again if fresh in folders else validity)
        elif dice < 0.78 and name not in self.fixed:
            to = self.fresh_name()
            if not to.startswith(name) and not name.startswith(to):
                await self.ask("rename_folder", name, to)
        elif dice < 0.82 and self.deletable(name):
            await self.ask("delete_folder", name)
        elif dice < 0.86 and name not in self.fixed:  # what is configured `auto = subscribe` is so again at once
            await self.ask("subscribe", name, not folder.subscribed)
        elif dice < 0.9:
            beyond = self.random.choice((-3, 0, 1, 50, 1000))
            if self.simulated.powers.numbering is Numbering.BURNED:
                burned = [each.uid for each in await self.ask("burn", name, folder.mark.uidnext, 3)]
                if all(burned):
                    await self.ask("expunge", name, burned)
            else:
                self.raised += 10_000  # above what either has by itself
                modseq = self.random.choice((0, self.raised))
                await self.ask("raise_uidnext", (Raise(name, max(folder.mark.uidnext + beyond, 1), modseq),))
        elif dice < 0.92:
            self.client(name, some, self.random.choice(sorted(folders)), folders)
        elif dice < 0.95:
            ids = [f"0d{number}x" for number in range(1, self.number + 3)]
            await self.ask("find", self.random.sample(ids, min(10, len(ids))))
        elif dice < 0.98:
            wrong = await self.ask("read_identities", name, [*some, 999_999])
            assert all(uid in uids for uid in wrong)
        else:
            for question, words in (("read", ()), ("append", ([],)), ("read_identities", ([1],))):
                await self.ask(question, self.place.path("Missing"), *words)

    def client(self, name: str, uids: list[int], to: str, folders: dict[str, Folder]) -> None:
        """What people do: COPY, MOVE, RENAME and DELETE without a thought of subscriptions."""
        assert isinstance(self.simulated, ServerEnd)
        server = self.simulated.server
        what = self.random.choice(("copy", "move", "rename", "delete"))
        self.log.append(f"a client: {what} {name} {uids} {to}")
        with client(self.place.lab, self.user) as session:
            if what in ("copy", "move") and uids:
                done(session.select(quote(name)))
                done(session.uid("COPY", ",".join(map(str, uids)), quote(to)))
                for message in [server.boxes[name].messages[uid] for uid in uids]:
                    server.append(to, message.raw, message.flags, message.date)
                if what == "move":
                    expunge(session, name, ",".join(map(str, uids)))
                    server.expunge(name, tuple(uids))
            elif what == "rename" and name not in self.fixed:
                new = self.fresh_name()
                if new not in folders and not new.startswith(name) and not name.startswith(new):
                    taken = session.rename(quote(name), quote(new))[0] != "OK"
                    try:
                        server.rename(name, new)
                    except No:
                        assert taken, self.say("the name is taken")
                    else:
                        assert not taken, self.say("the name is not taken")
            elif what == "delete" and self.deletable(name):
                done(session.delete(quote(name)))
                server.delete(name)

    async def look(self, folders: dict[str, Folder]) -> None:
        """One folder whole, and what changed in it since some moment."""
        name = self.random.choice(sorted(folders))
        whole = await self.ask("read", name)
        now = folders[name].mark
        assert whole.before == now, self.say("SELECT and LIST differ")
        if rows := whole.rows:
            await self.ask("read", name, 0, self.random.choice(rows).uid)
        key = folders[name].identity or name
        known = [each for each in self.checkpoints if each[0] == key and each[1]]
        if known and self.simulated.powers.changes:
            _, one, other = self.random.choice([*known, (key, 10**9, 10**9)])  # the last: nothing, and no error
            self.log.append(f"since {name} {one} {other}")
            self.check("since", await self.simulated.read(name, one), await self.real.read(name, other))

    async def adopt(self) -> None:
        """The folders that the real server makes by itself."""
        assert isinstance(self.simulated, ServerEnd)
        server = self.simulated.server
        for folder in (await self.real.list_folders()).folders:
            server.create(folder.name, 0, folder.special_use)
            server.subscribe(folder.name, folder.subscribed)
            self.fixed |= {folder.name}

    async def run(self, steps: int) -> None:
        assert self.simulated.powers == self.real.powers
        await self.adopt()
        folders = await self.list_folders()
        for _ in range(steps):
            try:
                await self.act(folders)
            except Failed:
                pass  # of both
            folders = await self.list_folders()
            await self.look(folders)


KINDS = [
    pytest.param(TRAITS["dovecot"], "dovecot", id="dovecot"),
    pytest.param(TRAITS["node"], "node", id="node"),
    # As the lab's is configured.
    pytest.param(replace(TRAITS["cyrus"], separator="/", twins=0), "cyrus", id="cyrus"),
    pytest.param(TRAITS["plain"], "plain", id="plain"),
    # Dovecot once more, that announces UIDPLUS and no more than it needs; it keeps keywords.
    pytest.param(replace(TRAITS["imap"], keywords=True), "uidplus", id="imap"),
    # Nobody's administrator: it burns, and refuses and changes what Cyrus does.
    pytest.param(replace(TRAITS["burning"], separator="/", prefix="", identity=True, inbox_leaves=False, twins=0),
                 "plain cyrus", id="burning-cyrus"),
    # Dovecot again, under another name: what Cyrus refuses and changes it does not.
    pytest.param(replace(TRAITS["burning"], munge8bit=False, refuses_nul=False, twins=0), "generic",
                 id="burning"),
]  # fmt: skip


@pytest.mark.real
@pytest.mark.parametrize(("simulated", "real"), KINDS)
async def test_the_same_questions_have_the_same_answers(
    simulated: Traits, real: str, places: Callable[[str], Place]
) -> None:
    place = places(real)
    links = make_link_server(place.server, tools())
    try:
        for seed in seeds(3):
            someone = account(f"s{seed}@example.com")
            if place.lab.kind == "cyrus":
                place.lab.set_password(someone.address, "secret")
                place.lab.create_account(someone.address)
            await links.provide(someone)
            end = await links.end(someone)
            server = Server(real, 1000, simulated)
            both = Both(seed, ServerEnd(server), end, place, someone.address, partial(links.end, someone))
            await both.run(STEPS)
            await both.real.close()
    finally:
        await links.close()


@pytest.mark.real
@pytest.mark.parametrize("administrator", [False, True])
@pytest.mark.parametrize("conversations", [False, True])
async def test_cyrus_takes_so_many_identical_messages_in_a_folder(
    conversations: bool, administrator: bool, start_cyrus: Callable[..., Any]
) -> None:
    """`conversations_max_guidinfolder`, of what clients bring; without conversations, or as its administrator, any."""
    someone = account("twins@example.com")
    lab = start_cyrus(users={someone.address: "secret"}, extra="conversations: yes" if conversations else "")
    links = make_link_server(cyrus_server(lab, administrator=administrator), tools())
    traits = replace(TRAITS["cyrus" if administrator else "burning"], separator="/", prefix="", identity=True)
    server = Server("cyrus", 1000, traits if conversations else replace(traits, twins=0))
    try:
        await links.provide(someone)
        real, simulated = await links.end(someone), ServerEnd(server)
        for number in range(1, 13):
            letter = [Letter(number if administrator else 0, frozenset(), DATE, b"Message-ID: <1>\r\n\r\nsame\r\n")]
            answers = [await end.append("INBOX", letter) for end in (real, simulated)]
            taken = [isinstance(answer[0], Refused) for answer in answers]
            assert taken == [conversations and not administrator and number > 10] * 2, (number, answers)
        await real.close()
    finally:
        await links.close()
