"""Letting people in, the same way for IMAP, POP3 and submission.

Knows the order: name -> account, the wait, the password here or at the home, what is remembered of it. Does not know
how a hash is checked, how a home is spoken to, or what a protocol makes of a refusal.

Whatever is wrong (name, password, account disabled) is told in the same words after the same time.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, TypeVar

from onedomain.decision.login_name import account_of
from onedomain.decision.slowing import Slowing
from onedomain.edge.turns import Turns
from onedomain.model.account import Account, DirectoryView
from onedomain.model.failure import Failed, Failure, Kind, again, refuse
from onedomain.model.ports import Clock, Count, Nonce, Trace
from onedomain.model.server import LoginWay, Server
from onedomain.net.listen import address_key, network_key
from onedomain.protocol.sasl import Credentials

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Admission:
    """Who wants in. `verified`: the password was found right against our own hash, else the home has to decide."""

    account: Account
    password: str = field(repr=False)
    verified: bool

    def password_for(self, server: Server) -> str | None:
        """What Backend.log_in is given: None where we vouch and the server has a way in of its own.

        Never None for a password that nobody has looked at yet.
        """
        vouched = self.verified and server.login_way is not LoginWay.PASSWORD
        return None if vouched else self.password


Enter = Callable[[Admission], Awaitable[T]]
"""Goes on to the home. Raises Failed; of kind REFUSE only if the home found the password wrong."""

REMEMBERED = 10_000
KNOWN = 0.1
"""Of a log-in from an address is left, when it is no longer known: three half-lives."""
WAIT_AT_ONCE = 4
"""Log-ins of one address that sit out their waits in a worker: on a hundred connections 15 s would be no wait."""
WAIT_AT_ONCE_AT_ACCOUNT = 16
"""The same at one account, from addresses that are new to it: with a thousand addresses neither."""
TRIES_AT_ONCE = 4
"""Passwords under way at one account, and from one address at accounts it is new to: of a thousand that come in one
moment the others wait until those have been counted."""
CHECKS_AT_ONCE = 4
"""argon2id takes some 64 MB each while it runs."""


class Passwords(Protocol):
    def verify(self, hash: str, password: str) -> bool:
        """Takes its time, up to 100 ms: called in a thread. Never raises for a hash it doesn't understand."""
        ...


class Penalties(Protocol):
    """Figures by key that fade, seen by all workers (net/shared.py)."""

    def penalty(self, key: str, now: float) -> float: ...
    def add_penalty(self, key: str, now: float, amount: float = 1.0) -> None: ...


@dataclass(frozen=True, slots=True)
class LoginRules:
    """Seconds: every refusal comes `refusal` after the attempt, which is longer than Dovecot (2) and Cyrus (3) take to
    refuse, or the time would tell whether the name exists; what a home found right, and what was wrong, is remembered
    for `remember`; what our own hash found right for `remember_right`, as it is remembered together with that hash."""

    default_domain: str
    slowing: Slowing = field(default_factory=Slowing)
    refusal: float = 3.5
    remember: float = 300.0
    remember_right: float = 3600.0


@dataclass(frozen=True, slots=True)
class LoginParts:
    """`failures` fades in minutes; `known` remembers for days where accounts have logged in from."""

    directory: DirectoryView
    passwords: Passwords
    failures: Penalties
    known: Penalties
    clock: Clock
    nonce: Nonce
    trace: Trace
    count: Count


def wrong(reason: str) -> Failure:
    """The one answer to every log-in that is refused; `reason` is for the log."""
    return refuse(535, "5.7.8", "Authentication failed.", reason)


class _LetIn(NamedTuple):
    """Who lately logged in with certain credentials from a certain address, and until when that is remembered."""

    account: Account
    verified: bool
    until: float
    account_key: str
    address_key: str


class LogIns:
    """One per worker."""

    def __init__(self, parts: LoginParts, rules: LoginRules) -> None:
        self._parts = parts
        self._rules = rules
        self._secret = parts.nonce.token(32)
        self._right: OrderedDict[bytes, float] = OrderedDict()   # found right, until when
        self._wrong: OrderedDict[bytes, float] = OrderedDict()   # counted already, until when
        self._let_in: OrderedDict[bytes, _LetIn] = OrderedDict()
        self._checking = asyncio.Semaphore(CHECKS_AT_ONCE)
        self._waiting: Counter[str] = Counter()                  # by address, and by account
        self._turns = Turns(TRIES_AT_ONCE)

    async def log_in(self, credentials: Credentials, address: str, service: str, enter: Enter[T]) -> tuple[Account, T]:
        """The account, and what `enter` made of it. `address` is the client's, `service` a word for the trace.

        Raises Failed: 535 5.7.8 of kind REFUSE for whatever is wrong with the credentials; of kind AGAIN what `enter`
        raises.
        """
        monotonic = self._parts.clock.monotonic
        account = account_of(self._parts.directory, credentials.login, self._rules.default_domain)
        # A name that nobody has slows down as any other: the wait must not tell which exist.
        name = account.address if account is not None else f"?{credentials.login.lower()}"
        place, network = address_key(address), network_key(address)
        fields = {"account": account.address if account else credentials.login, "client": address, "service": service}
        attempt = _Attempt(name, place, network, credentials, fields)
        known = self._known(attempt)
        # A webmail's address is everybody's: who is known there does not wait for others.
        keys = (attempt.account_key,) if known else (attempt.account_key, attempt.address_key)
        began = monotonic()
        try:
            turn = await self._turns.take(*keys)
            try:
                if wait := self._wait(attempt, known):
                    turn.leave()
                    await self._sit_out(attempt, wait, known)
                    turn = await self._turns.take(*keys)
                began = monotonic()
                admission = await self._admit(account, credentials)
                if admission.verified:
                    turn.leave()
                result = await self._entered(admission, enter)
            except Failed as error:
                if error.failure.kind is Kind.REFUSE:
                    self._count(attempt)
                raise
            finally:
                turn.leave()
        except Failed as error:
            reason = error.failure.reason or error.failure.text
            if error.failure.kind is not Kind.REFUSE:
                self._note("login failed", attempt, began, reason, result="failed")
                raise
            await asyncio.sleep(max(0.0, began + self._rules.refusal - monotonic()))
            self._note("login refused", attempt, began, reason, result="refused")
            raise Failed(wrong(reason)) from None
        self._remember_place(attempt)
        self._remember_log_in(attempt, admission)
        self._note("login", attempt, began, result="ok")
        return admission.account, result

    def at_once(self, credentials: Credentials, address: str) -> Admission | None:
        """Who has logged in with the same words from the same address within minutes, where nobody has to wait now.

        None: `log_in` finds out. What it would say is the same, but that here nothing is awaited. To be followed by
        `let_in`, or by `log_in`.
        """
        if credentials.authorize:
            return None
        key = self._digest(credentials.login, credentials.password, address)
        known = self._let_in.get(key)
        if known is None:
            return None
        now, account = self._parts.clock.monotonic(), known.account
        if now >= known.until or self._parts.directory.account(account.address) is not account:
            del self._let_in[key]
            return None
        if known.account_key in self._turns:
            return None
        failures = self._parts.failures.penalty(known.address_key, now)
        if failures and self._rules.slowing.wait(failures, 0.0, known=True):
            return None
        return Admission(account, credentials.password, known.verified)

    def let_in(self, admission: Admission, address: str, service: str, seconds: float) -> None:
        """Who was admitted `at_once` is in."""
        self._parts.count.add("logins_total", service=service, result="ok")
        self._parts.trace.note("login", account=admission.account.address, client=address, service=service,
                               seconds=round(seconds, 3))

    def forget(self) -> None:
        """What names mean may have changed."""
        self._let_in.clear()

    async def _admit(self, account: Account | None, credentials: Credentials) -> Admission:
        if account is None:
            raise Failed(wrong("no such account"))
        if not account.enabled:
            raise Failed(wrong("the account is disabled"))
        if credentials.authorize:
            other = account_of(self._parts.directory, credentials.authorize, self._rules.default_domain)
            if other is None or other.address != account.address:
                raise Failed(wrong(f"may not act as {credentials.authorize}"))
        if not account.password:
            return Admission(account, credentials.password, False)
        if not await self._is_right(account, credentials.password):
            raise Failed(wrong("wrong password"))
        return Admission(account, credentials.password, True)

    async def _entered(self, admission: Admission, enter: Enter[T]) -> T:
        try:
            return await enter(admission)
        except Failed as error:
            if admission.verified and error.failure.kind is Kind.REFUSE:
                # Ours is right and the home's is another: nobody guessed, the operator has to mend it.
                reason = f"the password is right here and wrong at the home: {error.failure.reason}"
                raise Failed(again(454, "4.7.0", "Your mail server did not let you in.", reason)) from None
            raise

    async def _is_right(self, account: Account, password: str) -> bool:
        now = self._parts.clock.monotonic()
        key = self._digest(account.address, account.password, password)
        until = self._right.get(key)
        if until is not None and now < until:
            return True
        async with self._checking:
            right = await asyncio.to_thread(self._parts.passwords.verify, account.password, password)
        if right:
            _keep(self._right, key, now + self._rules.remember_right)
        return right

    def _known(self, attempt: _Attempt) -> bool:
        return self._parts.known.penalty(attempt.place_key, self._parts.clock.monotonic()) >= KNOWN

    def _wait(self, attempt: _Attempt, known: bool) -> float:
        now = self._parts.clock.monotonic()
        failures = self._parts.failures
        return self._rules.slowing.wait(
            failures.penalty(attempt.address_key, now),
            failures.penalty(attempt.account_key, now),
            failures.penalty(attempt.network_key, now) if attempt.network else 0.0,
            known=known,
        )

    async def _sit_out(self, attempt: _Attempt, wait: float, known: bool) -> None:
        """Raises Failed of kind AGAIN, without a look at the password, for who waits on many connections at once."""
        places = [(attempt.address_key, WAIT_AT_ONCE, "from this address")]
        if not known:
            places.append((attempt.account_key, WAIT_AT_ONCE_AT_ACCOUNT, "to this account"))
        waiting = self._waiting
        for key, most, where in places:
            if waiting[key] >= most:
                await asyncio.sleep(self._rules.refusal)
                reason = f"{most} log-ins {where} are waiting already"
                raise Failed(again(454, "4.7.0", "Too many log-ins, please try again later.", reason))
        for key, _, _ in places:
            waiting[key] += 1
        try:
            await asyncio.sleep(wait)
        finally:
            for key, _, _ in places:
                waiting[key] -= 1
                if not waiting[key]:
                    del waiting[key]

    def _count(self, attempt: _Attempt) -> None:
        """A device that tries one old password every minute doesn't slow its whole office down: it counts once."""
        now = self._parts.clock.monotonic()
        key = self._digest(attempt.place_key, "", attempt.credentials.password)
        until = self._wrong.get(key)
        if until is not None and now < until:
            return
        _keep(self._wrong, key, now + self._rules.remember)
        self._parts.failures.add_penalty(attempt.address_key, now)
        self._parts.failures.add_penalty(attempt.account_key, now)
        if attempt.network:
            self._parts.failures.add_penalty(attempt.network_key, now)

    def _remember_place(self, attempt: _Attempt) -> None:
        now = self._parts.clock.monotonic()
        if self._parts.known.penalty(attempt.place_key, now) < 0.5:
            self._parts.known.add_penalty(attempt.place_key, now)

    def _remember_log_in(self, attempt: _Attempt, admission: Admission) -> None:
        account, words = admission.account, attempt.credentials
        if words.authorize:
            return
        # Not by an alias, which may lead elsewhere tomorrow.
        name = words.login.strip().lower()
        if name not in (account.address, account.address.removesuffix(f"@{self._rules.default_domain}")):
            return
        until = self._parts.clock.monotonic() + self._rules.remember
        if admission.verified:
            until = self._right.get(self._digest(account.address, account.password, words.password), 0.0)
        key = self._digest(words.login, words.password, attempt.fields["client"])
        _keep(self._let_in, key,
              _LetIn(account, admission.verified, until, attempt.account_key, attempt.address_key))

    def _digest(self, *parts: str) -> bytes:
        """What passwords are remembered by; worthless outside this process."""
        message = "\0".join(parts).encode("utf-8", "surrogateescape")
        return hashlib.blake2b(message, key=self._secret, digest_size=32).digest()

    def _note(self, event: str, attempt: _Attempt, began: float, reason: str = "", *, result: str) -> None:
        self._parts.count.add("logins_total", service=attempt.fields["service"], result=result)
        seconds = round(self._parts.clock.monotonic() - began, 3)
        self._parts.trace.note(event, **attempt.fields, seconds=seconds, **({"reason": reason} if reason else {}))


@dataclass(frozen=True, slots=True)
class _Attempt:
    """The keys under which it counts, and what the trace says of it."""

    name: str
    place: str
    network: str
    credentials: Credentials
    fields: dict[str, str]

    @property
    def address_key(self) -> str:
        return f"login from {self.place}"

    @property
    def network_key(self) -> str:
        return f"login from network {self.network}"

    @property
    def account_key(self) -> str:
        return f"login to {self.name}"

    @property
    def place_key(self) -> str:
        return f"login from {self.place} to {self.name}"


def _keep(memory: OrderedDict[bytes, T], key: bytes, what: T) -> None:
    memory[key] = what
    memory.move_to_end(key)
    if len(memory) > REMEMBERED:
        memory.popitem(last=False)
