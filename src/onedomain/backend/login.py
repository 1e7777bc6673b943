"""Logging in to a home: with the user's password, a master's, or as an administrator in the user's name.

Knows the ways and what a server's No means. Does not know whether the user may be let in: the home or the directory
says so. Never logs a secret.
"""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass, field

from onedomain.backend.base import ClientInfo
from onedomain.backend.imap_session import Answer, ImapSession
from onedomain.backend.names import mailbox_name
from onedomain.backend.trouble import Trouble
from onedomain.model.account import Account
from onedomain.model.failure import Failed, Failure, again, give_up, refuse
from onedomain.model.health import Seen
from onedomain.model.server import LoginWay, Server
from onedomain.protocol import sasl
from onedomain.protocol.imap.client import Command

MASTER_SEPARATOR = "*"
"""Dovecot's auth_master_user_separator, as everybody sets it."""

_WRONG = {"AUTHENTICATIONFAILED", "AUTHORIZATIONFAILED", "EXPIRED", "NOPERM", ""}
"""RFC 5530 codes of a final No; a No without a code is one, too. All others may pass."""


@dataclass(frozen=True, slots=True)
class Login:
    """`authorize` is the SASL authorisation identity or "". `own`: the secret is the operator's, not the user's."""

    user: str
    password: str = field(repr=False)
    authorize: str = ""
    own: bool = False


def login_of(server: Server, account: Account, password: str | None) -> Login:
    """How to log in for `account`. Raises Failed GIVE_UP.

    With `password`, the user's, the home decides whether it is right. None says that nobody has it or that it has been
    found right already: then the server's own way in is used, which asks for no password of the user's.
    """
    name = mailbox_name(server, account)
    if password is not None:
        return Login(name, password)
    if server.login_way is LoginWay.MASTER:
        return Login(f"{name}{MASTER_SEPARATOR}{server.master_user}", server.master_password, own=True)
    if server.login_way is LoginWay.AUTHZID:
        return Login(server.master_user, server.master_password, authorize=name, own=True)
    raise Failed(no_way(server))


def no_way(server: Server) -> Failure:
    reason = (
        f"server {server.name} is logged in to with the user's own password, which nobody has now: "
        f'give it a master user (login = "master" or "authzid")'
    )
    return give_up(550, "5.3.5", "this server offers no log-in without the user's password", reason)


def together(offered: frozenset[str], login: Login, client: ClientInfo | None) -> bytes | None:
    """All that `log_in` says to a server that has offered this in its greeting, where that is one write; else None."""
    if not offered.issuperset(("AUTH=PLAIN", "SASL-IR")):
        return None
    try:
        response = _plain_response(login)
    except ValueError:
        return None
    if client is None or not client.address or "ID" not in offered:
        return f"a1 AUTHENTICATE PLAIN {response}\r\n".encode("ascii")
    return f"a1 ID ({' '.join(_identity(client))})\r\na2 AUTHENTICATE PLAIN {response}\r\n".encode("ascii")


async def log_in(
    session: ImapSession, login: Login, client: ClientInfo | None = None, sent: bytes = b""
) -> Answer:
    """Logs in; with `client`, tells the server first whom this is for (Dovecot's ID fields). `sent`: what `together`
    said, if it has been sent.

    Raises Failed REFUSE (535 5.7.8) for wrong credentials of the user, AGAIN (454 4.7.0) for everything else.
    """
    before: list[Command] = []
    if client is not None and client.address and "ID" in session.capabilities:
        before.append(session.make("ID", _identity(client)))
    command = _command(session, login)
    session.forget_capabilities()
    if len(command.pieces) == 1:
        # ID changes no state that the log-in depends on, and a round trip less is a third of all.
        answer = (await session.run_together([*before, command], seconds=session.door.times.log_in, sent=sent))[-1]
    else:
        for each in before:
            await session.run(each)
        answer = await session.run(command, seconds=session.door.times.log_in)
    if not answer.ok:
        raise _refused(session, login, answer)
    if not session.capabilities:
        await session.ask("CAPABILITY")
    return answer


def _command(session: ImapSession, login: Login) -> Command:
    offered = session.capabilities
    try:
        if "AUTH=PLAIN" in offered:
            response = _plain_response(login)
            if "SASL-IR" in offered:
                return session.make("AUTHENTICATE", "PLAIN", response)
            return session.make_pieces("AUTHENTICATE PLAIN", response.encode("ascii"))
        if not login.authorize and "LOGINDISABLED" not in offered:
            return session.make(
                "LOGIN", login.user.encode(), login.password.encode("utf-8", "surrogateescape")
            )
    except ValueError as error:  # NUL: no server takes it
        raise Failed(refuse(535, "5.7.8", "authentication failed", str(error))) from None
    reason = f"{session.door.endpoint} offers no log-in that can be used: {' '.join(sorted(offered))}"
    raise Trouble(again(454, "4.7.0", "temporary authentication failure", reason), Seen.OK)


def _plain_response(login: Login) -> str:
    """Raises ValueError: a NUL, which no server takes."""
    return b64encode(sasl.plain(login.user, login.password, login.authorize)).decode("ascii")


def _refused(session: ImapSession, login: Login, answer: Answer) -> Failed:
    reason = f"log-in at {session.door.endpoint}: {answer.words}"
    if answer.tagged.status == "NO" and answer.code in _WRONG:
        if not login.own:
            return Failed(refuse(535, "5.7.8", "authentication failed", reason))
        name = login.authorize or login.user
        reason = f"our own log-in for {name} was refused; is the master user right, does the mailbox exist? {reason}"
        return Trouble(again(454, "4.7.0", "temporary authentication failure", reason), Seen.OK)
    return Trouble(again(454, "4.7.0", "temporary authentication failure", reason), Seen.REFUSED)


def _identity(client: ClientInfo) -> list[str]:
    """Dovecot's login-proxy fields (RFC 2971 form), believed from login_trusted_networks only; others ignore them."""
    fields = {
        "x-originating-ip": client.address,
        "x-originating-port": str(client.port),
        "x-connected-ip": client.local_address,
        "x-connected-port": str(client.local_port) if client.local_address else "",
        "x-session-id": client.session,
        "x-proxy-ttl": "5",
    }
    # ID wants strings, never atoms; addresses and ids hold nothing that would need an escape.
    return [f'"{word}"' for key, value in fields.items() if value and _plain(value) for word in (key, value)]


def _plain(value: str) -> bool:
    return value.isascii() and value.isprintable() and not set(value) & set('"\\')
