"""Where the mail for one address goes: the answer to RCPT TO.

Knows aliases, tags, forwarders, catch-alls and postmaster, and what may leave the domain. Does not know whether a
server is up, nor what durability the units ask for: it names the accounts, and others look at their homes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from onedomain.model.account import Account, DirectoryView, Domain
from onedomain.model.address import MAX_LOCAL, Address, AddressError, folded, parse_address
from onedomain.model.failure import Failure, again, refuse
from onedomain.model.message import Target

DEPTH = 20
"""How deep aliases and forwarders may lead to each other."""


@dataclass(frozen=True, slots=True)
class Accept:
    """`targets` are one or more, no account and no outside address twice. `accounts` are those of the local targets, in
    their order. `skipped` says in words which branches of an alias or forwarder lead nowhere, for the trace.
    """

    targets: tuple[Target, ...]
    accounts: tuple[Account, ...] = ()
    skipped: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Refuse:
    failure: Failure


def resolve(
    view: DirectoryView, address: Address, *, original: str = "", allow_outside: bool = False, limit: int = 100
) -> Accept | Refuse:
    """Who gets the mail for `address`, which came as `original` (RFC 3461 ORCPT; default: the address itself).

    `allow_outside`: the client has logged in, so it may write to other domains. `limit`: the most targets one
    address may expand to. Aliases and forwarders may always lead outside.

    Refused: 550 5.7.1 not our domain; 550 5.1.1 unknown; 550 5.2.1 disabled; and, because the directory is wrong
    and its owner can mend that while the sender tries again, 451 4.4.6 a loop without an end and 451 4.3.5 more than
    `limit` targets or DEPTH levels (Postfix defers on both, too).
    """
    domain = domain_of(view, address)
    if domain is None and not allow_outside:
        return Refuse(refuse(550, "5.7.1", "relaying denied", f"{address.domain} is not a domain of ours"))
    if domain is not None and (found := _own(view, address, domain, original)) is not None:
        return found
    walk = _Walk(view, original or str(address), limit)
    try:
        failure = walk.visit(address, 0)
    except _TooMuch as too_much:
        return Refuse(again(451, "4.3.5", "recipient expands to too many addresses", str(too_much)))
    if failure is not None:
        return Refuse(failure)
    return Accept(tuple(walk.targets.values()), tuple(walk.accounts), tuple(walk.skipped))


def _own(view: DirectoryView, address: Address, domain: Domain, original: str) -> Accept | None:
    """Most mail is for an account by its own name, which nothing leads away from: what the walk would find, too."""
    local = address.local
    if local[0] == '"':
        return None
    home = f"{local}@{domain.canonical}"
    account = view.account(folded(home))
    if account is None or not account.enabled or account.forward_to:
        return None
    return Accept((Target(home, account.address, original or str(address)),), (account,))


def domain_of(view: DirectoryView, address: Address) -> Domain | None:
    """The domain of ours that the address is in, or None. A root dot at the end makes no other domain of it."""
    return view.domain(folded(address.domain).removesuffix("."))


def canonical(view: DirectoryView, address: Address) -> Address:
    """The address under the domain its accounts are kept under, unquoted where the quotes say nothing.

    RFC 5321 section 4.1.2: `"a..b"@d` is how a strict sender has to spell `a..b@d`. Outside addresses stay as they are.
    """
    domain = domain_of(view, address)
    return address if domain is None else Address(_unquoted(address.local), domain.canonical)


class _TooMuch(Exception):
    pass


class _Walk:
    """One expansion. `visit` returns None when the address led to at least one target, else why it led to none."""

    def __init__(self, view: DirectoryView, original: str, limit: int) -> None:
        self.view = view
        self.original = original
        self.limit = limit
        self.targets: dict[str, Target] = {}
        self.accounts: list[Account] = []
        self.skipped: list[str] = []
        self._seen: dict[str, Failure | None] = {}
        self._under_way: set[str] = set()

    def visit(self, address: Address, depth: int) -> Failure | None:
        if depth > DEPTH:
            raise _TooMuch(f"{self.original} leads through more than {DEPTH} aliases")
        domain = domain_of(self.view, address)
        if domain is None:
            # The local part of an outside address is the other side's to compare (RFC 5321 section 2.4).
            self._reach(f"{address.local}@{address.domain.lower()}", Target(str(address), original=self.original))
            return None
        home = Address(_unquoted(address.local), domain.canonical)
        key = home.key
        if key in self._seen:
            return self._seen[key]
        if key in self._under_way:
            return _loop(home)
        self._under_way.add(key)
        failure = self._seen[key] = self._inside(home, domain, depth)
        return failure

    def _inside(self, address: Address, domain: Domain, depth: int) -> Failure | None:
        failure = self._named(address, domain, depth)
        if failure is None:
            return None
        if address.local.lower() == "postmaster" and domain.postmaster:
            # RFC 5321 section 4.5.1: mail to postmaster must always be taken.
            return self._follow(str(address), (domain.postmaster,), depth)
        if failure.enhanced != "5.1.1":
            return failure
        catch_all = self.view.alias(f"@{domain.canonical}")
        if catch_all is None:
            return failure
        return self._follow(catch_all.address, catch_all.targets, depth)

    def _named(self, address: Address, domain: Domain, depth: int) -> Failure | None:
        """The account or alias of that name; with the tag if there is one of that very name, else without."""
        bare = address.without_tag(domain.tag_separator) if domain.tag_separator else address
        for name in (address,) if bare == address else (address, bare):
            if (account := self.view.account(name.key)) is not None:
                return self._account(account, address, depth)
            if (alias := self.view.alias(name.key)) is not None:
                tag = address.tag(domain.tag_separator) if name != address else ""
                return self._follow(alias.address, alias.targets, depth, tag)
        return refuse(550, "5.1.1", "no such mailbox", f"{address} is unknown")

    def _account(self, account: Account, address: Address, depth: int) -> Failure | None:
        if not account.enabled:
            return refuse(550, "5.2.1", "mailbox disabled", f"{account.address} is disabled")
        forwarded = self._follow(account.address, account.forward_to, depth) is None
        # A forwarder that leads nowhere must not swallow the mail.
        keep = account.keep_copy or not forwarded
        if keep and self._reach(account.address, Target(str(address), account.address, self.original)):
            self.accounts.append(account)
        return None

    def _follow(self, name: str, targets: tuple[str, ...], depth: int, tag: str = "") -> Failure | None:
        """All targets; None if at least one led somewhere. `tag` is handed on to those in our domains."""
        reached = False
        failure: Failure | None = None
        for target in targets:
            try:
                problem = self.visit(self._tagged(parse_address(target), tag), depth + 1)
            except AddressError as error:
                problem = _nowhere(name, f"{target!r}: {error}")
            if problem is None:
                reached = True
            else:
                failure = failure or problem
                self.skipped.append(f"{name} -> {target}: {problem.reason or problem.text}")
        if reached:
            return None
        if failure is None:
            return _nowhere(name, "no targets")
        if failure.enhanced in ("5.1.1", "5.2.1"):
            # The peer asked for the alias, so the alias is what its answer is about.
            return replace(failure, reason=f"{name}: {failure.reason}")
        return failure

    def _tagged(self, target: Address, tag: str) -> Address:
        """As Postfix does (propagate_unmatched_extensions), but not outside, where tags may be unknown; nor where the
        target has one of its own, or somebody else is called that.
        """
        domain = domain_of(self.view, target) if tag else None
        if domain is None or not (separator := domain.tag_separator) or target.local.startswith('"'):
            return target
        tagged = Address(f"{target.local}{separator}{tag}", target.domain)
        key = Address(tagged.local, domain.canonical).key
        taken = self.view.account(key) is not None or self.view.alias(key) is not None
        too_long = len(tagged.local.encode("utf-8", "surrogatepass")) > MAX_LOCAL
        return target if separator in target.local or taken or too_long else tagged

    def _reach(self, key: str, target: Target) -> bool:
        if key in self.targets:
            return False
        if len(self.targets) >= self.limit:
            raise _TooMuch(f"{self.original} expands to more than {self.limit} addresses")
        self.targets[key] = target
        return True


def _loop(address: Address) -> Failure:
    return again(451, "4.4.6", "recipient leads back to itself", f"{address} leads back to itself")


def _nowhere(name: str, why: str) -> Failure:
    return again(451, "4.3.5", "recipient leads nowhere", f"{name}: {why}")


def _unquoted(local: str) -> str:
    if len(local) < 3 or local[0] != '"' or local[-1] != '"':
        return local
    letters = iter(local[1:-1])
    plain = "".join(next(letters, "") if letter == "\\" else letter for letter in letters)
    try:
        return parse_address(f"{plain}@x").local
    except AddressError:
        return local
