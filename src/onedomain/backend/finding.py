"""Looking for one message by its delivery id, in every folder of a logged-in account.

Knows how a No becomes certain: the whole account is looked through twice, because a server that was cut off or stopped
after the final dot may still be filing the message when it is first asked, and because a message may be moved from a
folder not yet seen to one seen already. Does not know what follows from the answer.

A message that a filter discarded or redirected is found nowhere.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from time import gmtime

from onedomain.backend.base import Found, Lookup
from onedomain.backend.imap_session import Answer, ImapSession
from onedomain.model.failure import again
from onedomain.model.message import DELIVERY_ID_HEADER
from onedomain.protocol.imap.client import Argument
from onedomain.protocol.imap.response import Untagged

SKEW = 2 * 86400
"""Seconds that SINCE is set back: it compares days, in the server's time zone, of the server's clock."""

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
INBOX = b"INBOX"
_CLOSED = {"\\noselect", "\\nonexistent"}


@dataclass(frozen=True, slots=True)
class _Mark:
    """Nothing has come into a folder as long as these are the same."""

    validity: int
    next: int


class Finder:
    """`settle`: seconds between the two looks. `since`: the message can't be older, in seconds since 1970."""

    def __init__(self, session: ImapSession, delivery_id: str, settle: float, since: float | None = None) -> None:
        self._session = session
        self._id = delivery_id
        self._settle = settle
        self._criteria: list[Argument] = [*_since(since), "HEADER", DELIVERY_ID_HEADER, delivery_id.encode()]
        self._marks: dict[bytes, _Mark] = {}

    async def find(self) -> Lookup:
        """Raises Trouble."""
        first = await self._look()
        if first.found is not Found.NO:
            return first
        await asyncio.sleep(self._settle)
        return await self._look()

    async def _look(self) -> Lookup:
        folders = await folders_of(self._session)
        if isinstance(folders, Lookup):
            return folders
        unsure: Lookup | None = None if INBOX in folders else _hidden()
        for folder in folders:
            found = await self._look_into(folder)
            if found.found is Found.YES:
                return found
            if found.found is Found.CANT:
                unsure = found
        return unsure or Lookup(Found.NO)

    async def _look_into(self, folder: bytes) -> Lookup:
        examined = await self._session.ask("EXAMINE", folder)
        if not examined.ok:
            # Removed since it was listed; a name that the server then denies to know is another matter.
            gone = examined.code == "NONEXISTENT" and folder != INBOX
            return Lookup(Found.NO) if gone else _cannot(f"EXAMINE {folder!r}", examined)
        mark = _Mark(_number(examined, "UIDVALIDITY"), _number(examined, "UIDNEXT"))
        if mark.next and self._marks.get(folder) == mark:
            return Lookup(Found.NO)
        answer = await self._session.ask("UID SEARCH", *self._criteria, seconds=self._session.door.times.search)
        if not answer.ok:
            return _cannot(f"UID SEARCH in {folder!r}", answer)
        if found_uids(answer):
            return Lookup(Found.YES, folder.decode("utf-8", "replace"))
        self._marks[folder] = mark
        return Lookup(Found.NO)


async def folders_of(session: ImapSession) -> list[bytes] | Lookup:
    """The account's own folders that hold messages, INBOX first; a Lookup (CANT) where they can't be listed."""
    foreign: tuple[bytes, ...] = ()
    if "NAMESPACE" in session.capabilities:
        namespace = await session.ask("NAMESPACE")
        foreign = tuple(prefix for found in namespace.named("NAMESPACE") for prefix in _foreign(found))
    listed = await session.ask("LIST", b"", b"*")
    if not listed.ok:
        return _cannot("LIST", listed)
    names = []
    for response in listed.named("LIST"):
        flags, _, name = response.values
        if _CLOSED.isdisjoint(flag.lower() for flag in flags) and not (folder := _bytes(name)).startswith(foreign):
            names.append(INBOX if folder.upper() == INBOX else folder)
    return sorted(names, key=lambda name: name != INBOX)


def found_uids(answer: Answer) -> list[int]:
    return [uid for response in answer.named("SEARCH") for uid in response.values if isinstance(uid, int)]


def _foreign(namespace: Untagged) -> list[bytes]:
    """Prefixes of other people's and shared folders (RFC 2342), where deliveries to this account don't go."""
    prefixes = [_bytes(entry[0]) for part in namespace.values[1:3] for entry in part or []]
    return [prefix for prefix in prefixes if prefix]


def _bytes(value: object) -> bytes:
    """A folder's name, however the server spelt it: string or atom (a number and NIL are atoms, too)."""
    return value if isinstance(value, bytes) else b"NIL" if value is None else str(value).encode()


def _number(answer: Answer, code: str) -> int:
    for response in answer.untagged:
        if response.code is not None and response.code.name == code and response.code.values:
            value = response.code.values[0]
            return value if isinstance(value, int) else 0
    return 0


def _cannot(doing: str, answer: Answer) -> Lookup:
    failure = again(451, "4.3.0", "the mailbox cannot be searched now", f"{doing}: {answer.words}")
    return Lookup(Found.CANT, failure=failure)


def _hidden() -> Lookup:
    """The message was taken, so there is an INBOX; who does not see it does not see other folders either."""
    reason = "LIST shows no INBOX: may our log-in see this account's folders? (Dovecot's acl plugin: acl_user = %u)"
    return Lookup(Found.CANT, failure=again(451, "4.3.0", "the mailbox cannot be searched now", reason))


def _since(since: float | None) -> list[str]:
    if since is None:
        return []
    day = gmtime(max(since - SKEW, 0))
    return ["SINCE", f"{day.tm_mday}-{_MONTHS[day.tm_mon - 1]}-{day.tm_year}"]
