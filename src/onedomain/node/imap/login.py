"""Getting in: CAPABILITY, ID, STARTTLS, LOGIN, AUTHENTICATE, ENABLE (RFC 3501 sections 6.1 and 6.2).

Knows who may try, and how wrong passwords are slowed down. Does not know how a password is checked.
"""

from __future__ import annotations

import asyncio

from onedomain.node.imap.reader import CommandReader
from onedomain.node.imap.talk import Done, Talk
from onedomain.protocol import sasl
from onedomain.protocol.imap import command as c
from onedomain.protocol.imap.lines import Limits
from onedomain.protocol.imap.link import CAPABILITY

BASE = ("IMAP4rev1", "LITERAL+", "SASL-IR", "ID", "ENABLE")
MORE = (
    "IDLE", "NAMESPACE", "CHILDREN", "UIDPLUS", "UNSELECT", "MOVE", "ESEARCH", "WITHIN", "SPECIAL-USE",
    "CREATE-SPECIAL-USE", "LIST-EXTENDED", "LIST-STATUS", "STATUS=SIZE", "MULTIAPPEND", "CONDSTORE", "QRESYNC",
)

LINK_LINE = 1024 * 1024
"""Bytes of a line of the replication log-in: thousands of accounts, or of flags, in one command."""

WRONG_DELAY = 2.0
MOST_FAILURES = 3
WRONG = Done("Wrong name or password", "NO", "AUTHENTICATIONFAILED")
CLEAR = Done("Not without TLS", "NO", "PRIVACYREQUIRED")

SERVER_ID = b'* ID ("name" "OneDomain node")\r\n'


def capabilities(talk: Talk) -> str:
    words = list(BASE)
    if talk.replicates or talk.account is not None:
        words.append(f"APPENDLIMIT={talk.services.settings.max_message}")  # RFC 7889
    if talk.replicates:
        words.append(CAPABILITY)
    elif talk.account is not None:
        words += MORE
    else:
        if talk.services.tls is not None and talk.stream.tls is None:
            words.append("STARTTLS")
        words += ["AUTH=PLAIN", "AUTH=LOGIN"] if _may_log_in(talk) else ["LOGINDISABLED"]
    return " ".join(words)


async def capability(talk: Talk, _: c.Plain) -> Done:
    talk.say(f"* CAPABILITY {capabilities(talk)}\r\n".encode())
    return Done("Capability completed")


async def identify(talk: Talk, arguments: c.Id) -> Done:
    """RFC 2971. An edge that is trusted tells its client's address as Dovecot's proxies do."""
    given = arguments.parameters
    if "x-originating-ip" in given and talk.services.trusts(talk.stream.peer[0]):
        talk.client = given["x-originating-ip"][:64]
    talk.say(SERVER_ID)
    return Done("ID completed")


async def enable(talk: Talk, arguments: c.Enable) -> Done:
    """RFC 5161. QRESYNC brings CONDSTORE along (RFC 7162 section 3.2.3); what is not known is passed over."""
    names = [name for name in dict.fromkeys(arguments.capabilities) if name in ("CONDSTORE", "QRESYNC")]
    talk.say(" ".join(["* ENABLED", *names]).encode() + b"\r\n")
    if names:
        talk.enable_condstore()
    if "QRESYNC" in names:
        talk.enabled.qresync = True
    return Done("Enabled")


async def secure(talk: Talk) -> None:
    """After the OK of STARTTLS was sent. Raises ssl.SSLError, ConnectionError."""
    assert talk.services.tls is not None
    if dropped := talk.reader.forget():
        talk.services.trace.note("injected", client=talk.client, reason=f"{dropped} bytes in the clear behind STARTTLS")
    talk.reader = CommandReader(talk.stream)
    await talk.stream.start_tls(talk.services.tls, server_side=True)


async def log_in(talk: Talk, arguments: c.Login) -> Done:
    if not _may_log_in(talk):
        return CLEAR
    try:
        return await _check(talk, sasl.credentials(arguments.user.encode(), arguments.password.encode()))
    except sasl.Unacceptable:
        return await _wrong(talk, arguments.user)


async def authenticate(talk: Talk, arguments: c.Authenticate) -> Done:
    if not _may_log_in(talk):
        return CLEAR
    mechanism = sasl.server(arguments.mechanism)
    if mechanism is None:
        return Done("No such mechanism", "NO", "CANNOT")
    answer = arguments.initial
    try:
        while True:
            if answer is None:
                talk.say(b"+ " + sasl.encode(mechanism.challenge()) + b"\r\n")
                await talk.flush()
                answer = await talk.reader.line()
                if answer is None:
                    raise ConnectionError("closed while logging in")
            credentials = mechanism.answer(sasl.decode(answer))
            if credentials is not None:
                return await _check(talk, credentials)
            answer = None
    except sasl.Unacceptable:
        return await _wrong(talk, "")
    except sasl.SaslError as error:
        return Done(str(error).capitalize(), "BAD")


def _may_log_in(talk: Talk) -> bool:
    return talk.stream.tls is not None or talk.services.trusts(talk.stream.peer[0])


async def _check(talk: Talk, credentials: sasl.Credentials) -> Done:
    if talk.services.replicates(credentials):
        talk.replicates = True
        size = talk.services.settings.max_message
        talk.reader.allow(Limits(line=LINK_LINE, literal=size, command=8 * size))
        talk.services.trace.note("replication login", client=talk.client, tls=talk.stream.tls is not None)
        return Done("Logged in", code=f"CAPABILITY {capabilities(talk)}")
    account = await talk.services.log_in(credentials)
    if account is None:
        return await _wrong(talk, credentials.authorize or credentials.login)
    talk.account = account
    size = talk.services.settings.max_message
    talk.reader.allow(Limits(line=65536, literal=size, command=8 * size))
    talk.services.trace.note("login", account=account.name, client=talk.client, tls=talk.stream.tls is not None)
    return Done("Logged in", code=f"CAPABILITY {capabilities(talk)}")


async def _wrong(talk: Talk, name: str) -> Done:
    talk.failures += 1
    talk.services.trace.note("login refused", account=name[:320], client=talk.client, reason="wrong credentials")
    await asyncio.sleep(WRONG_DELAY)
    if talk.failures >= MOST_FAILURES:
        talk.over = True
        talk.say(b"* BYE Too many wrong passwords\r\n")
    return WRONG


def greeting(talk: Talk) -> bytes:
    return f"* OK [CAPABILITY {capabilities(talk)}] {talk.services.settings.name} OneDomain node\r\n".encode()


