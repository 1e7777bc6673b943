"""Looking for one message by its delivery id, in every folder of a logged-in account.

Knows folders and searches. A message that a filter discarded or redirected is found nowhere, and one that is moved at
this very moment may be missed. Does not know what follows from the answer, nor when to ask again.
"""

from __future__ import annotations

from time import gmtime

from onedomain.backend.base import Found, Lookup
from onedomain.backend.imap_session import Answer, ImapSession
from onedomain.model.failure import again
from onedomain.model.message import DELIVERY_ID_HEADER
from onedomain.protocol.imap.client import Argument
from onedomain.protocol.imap.response import ResponseError, Untagged

SKEW = 2 * 86400
"""Seconds that SINCE is set back: it compares days, in the server's time zone, of the server's clock."""

INBOX = b"INBOX"
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_CLOSED = {"\\noselect", "\\nonexistent"}


async def find_delivery(session: ImapSession, delivery_id: str, since: float | None = None) -> Lookup:
    """INBOX first, the others as the server lists them. Raises Trouble, and ResponseError for answers of odd shape.

    `since`: the message can't be older, in seconds since 1970; the server then reads recent messages only.
    """
    folders = await folders_of(session)
    if isinstance(folders, Lookup):
        return folders
    criteria: list[Argument] = [*since_words(since), "HEADER", DELIVERY_ID_HEADER, delivery_id.encode()]
    unsure: Lookup | None = None if INBOX in folders else _hidden()
    for folder in folders:
        found = await _look_into(session, folder, criteria)
        if found.found is Found.YES:
            return found
        if found.found is Found.CANT:
            unsure = found
    return unsure or Lookup(Found.NO)


async def _look_into(session: ImapSession, folder: bytes, criteria: list[Argument]) -> Lookup:
    examined = await session.ask("EXAMINE", folder)
    if not examined.ok:
        # Removed since it was listed. A server that says so in words only is asked again later.
        gone = examined.code == "NONEXISTENT" and folder != INBOX
        return Lookup(Found.NO) if gone else _cannot(f"EXAMINE {folder!r}", examined)
    answer = await session.ask("UID SEARCH", *criteria, seconds=session.door.times.search)
    if not answer.ok:
        return _cannot(f"UID SEARCH in {folder!r}", answer)
    if found_uids(answer):
        return Lookup(Found.YES, folder.decode("utf-8", "replace"))
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
    names = [_selectable(response) for response in listed.named("LIST")]
    own = {name for name in names if name and not name.startswith(foreign)}
    return sorted(own, key=lambda name: (name != INBOX, name))


def found_uids(answer: Answer) -> list[int]:
    return [uid for response in answer.named("SEARCH") for uid in response.values if isinstance(uid, int)]


def _selectable(listed: Untagged) -> bytes:
    """The name of a folder that holds messages, else b""."""
    if len(listed.values) < 3 or not isinstance(listed.values[0], list):
        raise ResponseError(f"LIST response of odd shape: {listed.values}")
    flags = {str(flag).lower() for flag in listed.values[0]}
    name = _bytes(listed.values[2])
    if flags & _CLOSED:
        return b""
    return INBOX if name.upper() == INBOX else name


def _foreign(namespace: Untagged) -> list[bytes]:
    """Prefixes of other people's and shared folders (RFC 2342), where deliveries to this account don't go."""
    prefixes = []
    for part in namespace.values[1:3]:
        for entry in part if isinstance(part, list) else [part] if part is not None else []:
            if not isinstance(entry, list) or not entry:
                raise ResponseError(f"NAMESPACE response of odd shape: {namespace.values}")
            prefixes.append(_bytes(entry[0]))
    return [prefix for prefix in prefixes if prefix]


def _bytes(value: object) -> bytes:
    """A folder's name, however the server spelt it: string or atom (a number and NIL are atoms, too)."""
    return value if isinstance(value, bytes) else b"NIL" if value is None else str(value).encode()


def _cannot(doing: str, answer: Answer) -> Lookup:
    failure = again(451, "4.3.0", "the mailbox cannot be searched now", f"{doing}: {answer.words}")
    return Lookup(Found.CANT, failure=failure)


def _hidden() -> Lookup:
    """The message was taken, so there is an INBOX; who does not see it does not see other folders either."""
    reason = "LIST shows no INBOX: may our log-in see this account's folders? (Dovecot's acl plugin: acl_user = %u)"
    return Lookup(Found.CANT, failure=again(451, "4.3.0", "the mailbox cannot be searched now", reason))


def since_words(since: float | None) -> list[str]:
    if since is None:
        return []
    day = gmtime(max(since - SKEW, 0))
    return ["SINCE", f"{day.tm_mday}-{_MONTHS[day.tm_mon - 1]}-{day.tm_year}"]
