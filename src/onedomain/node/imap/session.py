"""The course of one IMAP session: read a command, see whether it is allowed now, do it, answer.

Knows the states of RFC 3501 section 3 and how failures are answered. Does not know what the commands do.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from onedomain.model.failure import Failed
from onedomain.net.stream import Stream
from onedomain.node.imap import append, change, fetch, folders, link, link_append, listing, login, search
from onedomain.node.imap.reader import Append, BadAppend, LinkAppend, TooLong, Whole
from onedomain.node.imap.talk import Done, Talk
from onedomain.node.services import Services
from onedomain.node.store.values import Rejected
from onedomain.protocol.imap import command as c
from onedomain.protocol.imap.link import is_link
from onedomain.protocol.imap.parser import BadCharset, BadCommand, BadName, parse, tag_of
from onedomain.protocol.imap.searching import CHARSETS

MOST_MISTAKES = 50
"""BAD answers in a row after which nobody sensible is at the other end; before log-in, five."""

_ALWAYS = frozenset({"CAPABILITY", "NOOP", "LOGOUT", "ID"})
_BEFORE_LOGIN = _ALWAYS | {"STARTTLS", "LOGIN", "AUTHENTICATE"}
_AFTER_LOGIN = _ALWAYS | {
    "ENABLE", "SELECT", "EXAMINE", "CREATE", "DELETE", "RENAME", "SUBSCRIBE", "UNSUBSCRIBE", "LIST", "LSUB", "STATUS",
    "APPEND", "NAMESPACE", "IDLE",
}  # fmt: skip
_SELECTED = _AFTER_LOGIN | {
    "CHECK", "CLOSE", "UNSELECT", "EXPUNGE", "UID EXPUNGE", "SEARCH", "UID SEARCH", "FETCH", "UID FETCH", "STORE",
    "UID STORE", "COPY", "UID COPY", "MOVE", "UID MOVE",
}  # fmt: skip


class ImapSession:
    def __init__(self, services: Services, stream: Stream) -> None:
        self._talk = Talk(services, stream)
        self._mistakes = 0
        self._waiting = False  # between two commands, or idling

    def shut_down(self) -> None:
        """Say goodbye, at once where no command is being done, else after it."""
        talk = self._talk
        talk.over = True
        if self._waiting and not talk.stream.closed:
            with suppress(ConnectionError):
                talk.stream.write_nowait(b"* BYE Shutting down\r\n")
            talk.stream.close()

    async def run(self) -> None:
        """Until the client leaves. Raises ConnectionError."""
        talk = self._talk
        settings = talk.services.settings
        talk.say(login.greeting(talk))
        try:
            while not talk.over:
                await talk.flush()
                talk.patience(settings.idle_timeout if talk.logged_in else settings.login_timeout)
                try:
                    await self._next()
                except TimeoutError:
                    talk.say(b"* BYE Nothing heard for too long\r\n")
                    break
            await talk.flush()
        finally:
            talk.leave()

    async def _next(self) -> None:
        talk = self._talk
        tag = "*"
        try:
            self._waiting = True
            command = await talk.reader.command()
            self._waiting = False
            match command:
                case None:
                    talk.over = True
                    return
                case TooLong(start=start, literal=literal):
                    tag = tag_of(start)
                    raise BadCommand("Literal too large" if literal else "Command too long")
                case Append(data=data):
                    tag = tag_of(data)
                    done = await self._append(command)
                case BadAppend(data=data, error=error):
                    tag = tag_of(data)
                    raise error
                case LinkAppend(data=data):
                    tag = tag_of(data)
                    done = await self._link_append(command)
                case Whole(data=data) if talk.replicates and is_link(data):
                    tag = tag_of(data)
                    done = await link.link(talk, data)
                case Whole(data=data):
                    tag = tag_of(data)
                    done = await self._do(parse(data))
        except (BadCommand, BadName, BadCharset, Rejected, Failed) as failure:
            done = _refusal(failure)
        self._count(done)
        if done is not _SILENT:
            talk.tell(expunges=done.expunges)
            if done.modseq and talk.view is not None and talk.enabled.condstore:
                done = replace(done, code=f"HIGHESTMODSEQ {talk.view.modseq}")
            talk.say(done.line(tag))

    async def _append(self, command: Append) -> Done:
        talk = self._talk
        if talk.account is None:
            await talk.reader.skip(command.literal)
            raise BadCommand(_why_not(talk, "APPEND"))
        return await append.append(talk, command)

    async def _link_append(self, command: LinkAppend) -> Done:
        if not self._talk.replicates:
            await self._talk.reader.skip(command.literal)
            raise BadCommand("Unknown command XLINK")
        return await link_append.append(self._talk, command)

    async def _do(self, command: c.Command) -> Done:
        talk = self._talk
        if command.name not in self._allowed():
            raise BadCommand(_why_not(talk, command.name))
        match command.name:
            case "LOGOUT":
                talk.over = True
                talk.say(b"* BYE Logging out\r\n")
                return Done("Logout completed")
            case "STARTTLS":
                return await self._start_tls(command.tag)
            case "IDLE":
                return await self._idle()
        arguments: Any = command.arguments
        if isinstance(arguments, c.Search):
            return await search.search(talk, command.tag, arguments)
        return await _HANDLERS[command.name](talk, arguments)

    def _allowed(self) -> frozenset[str]:
        if self._talk.replicates:
            return _ALWAYS
        if self._talk.account is None:
            return _BEFORE_LOGIN
        return _AFTER_LOGIN if self._talk.view is None else _SELECTED

    async def _start_tls(self, tag: str) -> Done:
        talk = self._talk
        if talk.services.tls is None or talk.stream.tls is not None:
            raise BadCommand("TLS is not offered")
        talk.say(Done("Begin TLS negotiation now").line(tag))
        await talk.flush()
        await login.secure(talk)
        return _SILENT

    async def _idle(self) -> Done:
        """RFC 2177. News go out from the store's callback, while this waits for DONE."""
        talk = self._talk
        talk.say(b"+ idling\r\n")
        talk.tell(expunges=True)
        await talk.flush()
        view = talk.view
        if view is not None:
            view.news = lambda: _tell_now(talk)
        self._waiting = True
        try:
            line = await talk.reader.line()
        finally:
            self._waiting = False
            if view is not None:
                view.news = None
        if line is None:
            talk.over = True
            return _SILENT
        if line.upper() != b"DONE":
            raise BadCommand("Expected DONE")
        return Done("Idle completed")

    def _count(self, done: Done) -> None:
        talk = self._talk
        self._mistakes = self._mistakes + 1 if done.status == "BAD" else 0
        if self._mistakes >= (MOST_MISTAKES if talk.logged_in else 5):
            talk.over = True
            talk.say(b"* BYE Too many bad commands\r\n")


def _tell_now(talk: Talk) -> None:
    view = talk.view
    if view is None:
        return
    lines = view.tell(expunges=True)
    if lines:
        try:
            talk.stream.write_nowait(b"".join(lines))
        except ConnectionError:
            view.news = None  # the session's own read ends with it


def _refusal(failure: Exception) -> Done:
    match failure:
        case BadCommand():
            return Done(str(failure), "BAD", expunges=False)
        case BadName():
            return Done(str(failure), "NO", "CANNOT", expunges=False)
        case BadCharset():
            return Done(str(failure), "NO", f"BADCHARSET ({' '.join(CHARSETS)})", expunges=False)
        case Rejected(code=code, text=text):
            return Done(text, "NO", code)
        case Failed(failure=why):
            return Done(why.text.capitalize(), "NO", "OVERQUOTA" if why.code == 452 else "UNAVAILABLE")
    raise failure


def _why_not(talk: Talk, name: str) -> str:
    if not talk.logged_in:
        return "Log in first"
    return "Select a mailbox first" if name in _SELECTED else "Not allowed now"


async def _noop(_: Talk, __: c.Plain) -> Done:
    return Done("NOOP completed")


_SILENT = Done("")
"""Already answered, or nobody is there to hear it."""

_HANDLERS: dict[str, Callable[[Talk, Any], Awaitable[Done]]] = {
    "CAPABILITY": login.capability,
    "NOOP": _noop,
    "ID": login.identify,
    "LOGIN": login.log_in,
    "AUTHENTICATE": login.authenticate,
    "ENABLE": login.enable,
    "SELECT": folders.select,
    "EXAMINE": folders.select,
    "CREATE": folders.create,
    "DELETE": folders.delete,
    "RENAME": folders.rename,
    "SUBSCRIBE": folders.subscribe,
    "UNSUBSCRIBE": folders.subscribe,
    "LIST": listing.list_,
    "LSUB": listing.lsub,
    "STATUS": folders.status,
    "NAMESPACE": folders.namespace,
    "CHECK": folders.check,
    "CLOSE": folders.close,
    "UNSELECT": folders.unselect,
    "EXPUNGE": change.expunge,
    "UID EXPUNGE": change.expunge,
    "FETCH": fetch.fetch,
    "UID FETCH": fetch.fetch,
    "STORE": change.store,
    "UID STORE": change.store,
    "COPY": change.copy,
    "UID COPY": change.copy,
    "MOVE": change.copy,
    "UID MOVE": change.copy,
}
