"""An account's folders over IMAP: LIST with STATUS in one round trip, and what changes them.

Knows LIST-EXTENDED, LIST-STATUS (RFC 5819), SPECIAL-USE (RFC 6154), OBJECTID (RFC 8474), and plain LIST, LSUB and
STATUS for servers without. Does not know messages. A folder that is listed and does not tell its status is never left
out as long as it is there: to a plan that would mean that it was deleted.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from operator import is_

from onedomain.backend.imap_session import Answer
from onedomain.backend.link.connection import Connection, as_bytes, text, wire
from onedomain.backend.trouble import troubles
from onedomain.model.replica import Folder, Listing, Mark
from onedomain.protocol.imap.client import Command, quoted
from onedomain.protocol.imap.response import ResponseError, Untagged

INBOX = "INBOX"
STATUS_AT_ONCE = 100
SECOND, TRIES = 1.1, 3
_CLOSED = frozenset(("\\noselect", "\\nonexistent"))
_USES = {use.lower(): use for use in ("\\All", "\\Archive", "\\Drafts", "\\Flagged", "\\Junk", "\\Sent", "\\Trash")}


@dataclass(frozen=True, slots=True)
class IdentityItem:
    """What STATUS is asked for a name that outlives RENAME. `alone`: Cyrus answers it right only by itself."""

    name: str = ""
    alone: bool = False


@dataclass(slots=True)
class _Seen:
    """What one LIST with its STATUS came to, by name."""

    attributes: dict[str, frozenset[str]] = field(default_factory=dict)
    marks: dict[str, Mark] = field(default_factory=dict)
    identities: dict[str, str] = field(default_factory=dict)


class Folders:
    def __init__(self, connection: Connection, identity: IdentityItem) -> None:
        self._connection = connection
        self._identity = identity
        self._validities: dict[str, int] = {}  # as they were last listed, and of what was made since

    async def listing(self) -> Listing:
        """Raises Failed also where there is no INBOX: then the log-in does not see what is there."""
        connection = self._connection
        ours = connection.letting_go()
        answers = await connection.run_together([*ours, *self.questions()])
        if not all(answer.ok for answer in answers[: len(ours)]):
            raise connection.failed("it does not let go of a folder")
        return await self.listed(answers[len(ours) :])

    async def listed(self, answers: list[Answer]) -> Listing:
        """What `questions` were answered. The same words mean the same: the parser gives one event for them."""
        connection = self._connection
        told = [each for answer in answers for each in answer.untagged]
        before = connection.listed
        if before and len(told) == len(before[0]) and all(map(is_, told, before[0])):
            return self._noted(before[1])
        seen = self._seen(answers)
        if INBOX not in seen.attributes:
            # Dovecot's acl plugin hides it from a master user unless `acl_user = %u` is set.
            raise connection.failed("LIST shows no INBOX: may our log-in see this account's folders?")
        missing = [name for name in seen.attributes if name not in seen.marks]
        for start in range(0, len(missing), STATUS_AT_ONCE):
            await self._ask(missing[start : start + STATUS_AT_ONCE], seen)
        folders = tuple(self._folder(name, seen) for name in seen.attributes if name in seen.marks)
        namespace = connection.namespace
        listing = Listing(folders, namespace.separator, namespace.prefix)
        connection.listed = None if missing else (told, listing)
        return self._noted(listing)

    def _noted(self, listing: Listing) -> Listing:
        self._validities = {folder.name: folder.mark.uidvalidity for folder in listing.folders}
        return listing

    async def mark(self, name: str) -> Mark:
        """Raises Failed where it is not there."""
        await self._connection.let_go()
        return self._marked(name, await self._connection.demand("STATUS", wire(name), self._items()))

    async def mark_of(self, name: str) -> Mark | None:
        """None where the server says NO: mostly, as it is not there."""
        await self._connection.let_go()
        answer = await self._connection.ask("STATUS", wire(name), self._items())
        return self._marked(name, answer) if answer.ok else None

    def _marked(self, name: str, answer: Answer) -> Mark:
        seen = _Seen()
        self._note(answer, seen)
        if name not in seen.marks:
            raise self._connection.failed(f"STATUS does not tell of {name}")
        return seen.marks[name]

    # ---- changing them

    async def create(self, name: str, special_use: str = "") -> None:
        """There already is fine. Raises Failed, with Kind.REFUSE for a name that it will never have."""
        connection = self._connection
        await connection.let_go()
        use = [["USE", [special_use]]] if special_use and connection.can("CREATE-SPECIAL-USE") else []
        answer = await connection.ask("CREATE", wire(name), *use)
        if not answer.ok and use and answer.code != "ALREADYEXISTS":  # RFC 6154 section 3: USEATTR, or it has one
            answer = await connection.ask("CREATE", wire(name))
        if not answer.ok and not await self.there(name):
            raise connection.unwanted(f"CREATE {name}", answer)

    async def create_apart(self, name: str, special_use: str = "") -> Mark:
        """One that is new gets a UIDVALIDITY that no other folder has, so that clients can be shown another for each
        (model/validities.py). Servers that make them from the time alone (Courier) are asked again a second later.
        """
        for _ in range(TRIES):
            await self.create(name, special_use)
            mark = await self.mark(name)
            others = {value for other, value in self._validities.items() if other != name}
            if mark.uidvalidity not in others or mark.uidnext > 1 or mark.messages:
                break
            await self.delete(name)
            await asyncio.sleep(SECOND)
        else:
            await self.create(name, special_use)
            mark = await self.mark(name)
        self._validities[name] = mark.uidvalidity
        return mark

    async def rename(self, name: str, to: str) -> None:
        """With its subscriptions and those below, which RENAME leaves to names that are gone (RFC 9051 6.3.6)."""
        connection = self._connection
        await connection.let_go()
        subscribed = await self._subscribed(name)
        answer = await connection.ask("RENAME", wire(name), wire(to))
        if not answer.ok:
            raise connection.unwanted(f"RENAME {name} {to}", answer)
        for each in subscribed:
            await self.subscribe(each, False)
            await self.subscribe(to + each[len(name) :], True)

    async def delete(self, name: str) -> None:
        """Not there already is fine."""
        connection = self._connection
        await connection.let_go()
        answer = await connection.ask("DELETE", wire(name))
        if not answer.ok and await self.there(name):
            raise connection.unwanted(f"DELETE {name}", answer)
        await connection.ask("UNSUBSCRIBE", wire(name))  # some do it, some refuse to for what is gone

    async def subscribe(self, name: str, on: bool) -> None:
        await self._connection.demand("SUBSCRIBE" if on else "UNSUBSCRIBE", wire(name))

    async def set_use(self, name: str, special_use: str) -> None:
        """RFC 6154 section 4. Best effort: a use may be taken by another folder, or kept for folders at the top."""
        if self._connection.can("SPECIAL-USE") and self._connection.can("METADATA"):
            value = special_use.encode() or None
            await self._connection.ask("SETMETADATA", wire(name), ["/private/specialuse", value])

    async def there(self, name: str) -> bool:
        """Whether LIST shows it as one that can hold messages. Names are compared: patterns can't escape wildcards."""
        listed = await self._connection.demand("LIST", b"", wire(name))
        found = (_named(each) for each in listed.named("LIST"))
        return any(name == other and not attributes & _CLOSED for other, attributes in found)

    async def _subscribed(self, name: str) -> list[str]:
        separator = self._connection.namespace.separator
        found = []
        for pattern in (wire(name), wire(name + separator) + b"*"):
            answer = await self._connection.demand("LSUB", b"", pattern)
            found += [other for other, attributes in map(_named, answer.named("LSUB"))
                      if "\\noselect" not in attributes and (other == name or other.startswith(name + separator))]
        return list(dict.fromkeys(found))

    # ---- asking

    def _items(self) -> list[str]:
        items = ["MESSAGES", "UIDNEXT", "UIDVALIDITY"]
        if self._connection.changes:
            items.append("HIGHESTMODSEQ")
        if self._identity.name and not self._identity.alone:
            items.append(self._identity.name)
        return items

    @property
    def _extended(self) -> bool:
        return self._connection.can("LIST-EXTENDED") or self._connection.can("IMAP4REV2")

    def questions(self) -> list[Command]:
        """To be sent together, while no folder is open."""
        connection = self._connection
        make = connection.session.make
        commands: list[Command] = []
        if self._extended:
            returned: list[object] = ["SUBSCRIBED"]
            if connection.can("SPECIAL-USE"):
                returned.append("SPECIAL-USE")
            if connection.can("LIST-STATUS"):
                returned += ["STATUS", self._items()]
            commands.append(make("LIST", b"", b"*", "RETURN", returned))  # type: ignore[arg-type]
        else:
            commands += [make("LIST", b"", b"*"), make("LSUB", b"", b"*")]
        if self._identity.alone and connection.can("LIST-STATUS"):
            commands.append(make("LIST", b"", b"*", "RETURN", ["STATUS", [self._identity.name]]))
        return commands

    def _seen(self, answers: list[Answer]) -> _Seen:
        connection = self._connection
        seen = _Seen()
        for answer in answers:
            if not answer.ok:
                raise connection.refused("LIST", answer)
        with troubles(connection.session.doing):
            for answer in answers:
                self._note(answer, seen)
            if not self._extended:
                for each in answers[1].named("LSUB"):
                    name, _ = _named(each)
                    if name in seen.attributes:
                        seen.attributes[name] |= {"\\subscribed"}
        return seen

    def _note(self, answer: Answer, seen: _Seen) -> None:
        with troubles(self._connection.session.doing):
            for each in answer.untagged:
                if each.name == "LIST":
                    name, attributes = _named(each)
                    own = not as_bytes(each.values[2]).startswith(self._connection.namespace.foreign)
                    if own and not attributes & _CLOSED:
                        seen.attributes[name] = seen.attributes.get(name, frozenset()) | attributes
                elif each.name == "STATUS":
                    self._note_status(each, seen)

    def _note_status(self, response: Untagged, seen: _Seen) -> None:
        if len(response.values) != 2 or not isinstance(response.values[1], list):
            raise ResponseError(f"STATUS response of odd shape: {response.values}")
        name = _name(response.values[0])
        items = response.values[1]
        found = {str(key).upper(): value for key, value in zip(items[::2], items[1::2], strict=False)}
        value = found.get(self._identity.name)
        if isinstance(value, list):
            value = value[0] if value else ""
        if value:
            seen.identities[name] = text(as_bytes(value))
        numbers = [found.get(key) for key in ("UIDVALIDITY", "UIDNEXT", "MESSAGES")]
        uidvalidity, uidnext, messages = (number if isinstance(number, int) else None for number in numbers)
        if uidvalidity is None or uidnext is None or messages is None:
            return  # the answer to the other question
        modseq = found.get("HIGHESTMODSEQ", 0)
        known = isinstance(modseq, int) and self._connection.changes
        seen.marks[name] = Mark(uidvalidity, uidnext, modseq if known else 0, messages)

    async def _ask(self, names: list[str], seen: _Seen) -> None:
        """STATUS of folders that LIST showed without; those that are gone by now are left out."""
        connection = self._connection
        for name, answer in await self._status(names, self._items()):
            if answer.ok:
                self._note(answer, seen)
                if name not in seen.marks:
                    raise connection.failed(f"STATUS does not tell enough of {name}")
            elif await self.there(name):
                raise connection.refused(f"STATUS {name}", answer)
        if self._identity.alone:
            without = [name for name in names if name in seen.marks and name not in seen.identities]
            for _, answer in await self._status(without, [self._identity.name]):
                self._note(answer, seen)

    async def _status(self, names: list[str], items: list[str]) -> list[tuple[str, Answer]]:
        """Sent together, where no literal has to be waited for: a round trip per folder would make each pass slow."""
        connection = self._connection
        together = [name for name in names if quoted(wire(name)) is not None]
        make = connection.session.make
        answers = await connection.run_together([make("STATUS", wire(name), items) for name in together])
        found = list(zip(together, answers, strict=True))
        for name in names:
            if name not in together:
                found.append((name, await connection.ask("STATUS", wire(name), items)))
        return found

    def _folder(self, name: str, seen: _Seen) -> Folder:
        attributes = seen.attributes[name]
        use = next((_USES[each] for each in sorted(attributes) if each in _USES), "")
        folder = Folder(name, seen.marks[name], seen.identities.get(name, ""), use)
        return replace(folder, subscribed="\\subscribed" in attributes)


def _name(value: object) -> str:
    name = text(as_bytes(value))
    return INBOX if name.upper() == INBOX else name


def _named(response: Untagged) -> tuple[str, frozenset[str]]:
    """Name, and attributes in lower case, of a LIST or LSUB response."""
    if len(response.values) < 3 or not isinstance(response.values[0], list):
        raise ResponseError(f"LIST response of odd shape: {response.values}")
    return _name(response.values[2]), frozenset(str(each).lower() for each in response.values[0])

