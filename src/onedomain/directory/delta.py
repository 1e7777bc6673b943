"""What changed in the directory, as it travels from the keeper to the workers and into the local snapshot.

Knows rows and their spelling in JSON lines. Does not know where they come from nor who applies them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from sys import intern
from typing import Any

from onedomain.model.account import Account, Alias, Home


@dataclass(frozen=True, slots=True)
class Delta:
    """`seq` is the last change in it. Removed rows are named in `gone_accounts` and `gone_aliases`.

    A whole directory is a run of deltas with `whole` set; `more` says that the run goes on, and one with `more` and no
    rows begins it, whatever came before. `draining`: the servers
    that the operator drains, all of them, or None where that did not change. `epochs`: the last epochs of accounts that
    are gone.
    """

    seq: int
    accounts: tuple[Account, ...] = ()
    aliases: tuple[Alias, ...] = ()
    gone_accounts: tuple[str, ...] = ()
    gone_aliases: tuple[str, ...] = ()
    draining: tuple[str, ...] | None = None
    epochs: tuple[tuple[str, int], ...] = ()
    whole: bool = False
    more: bool = False

    def encode(self) -> bytes:
        """One line per delta, ending in a newline; never a newline inside."""
        record: dict[str, Any] = {"seq": self.seq}
        if self.accounts:
            record["accounts"] = [_account_row(account) for account in self.accounts]
        if self.aliases:
            record["aliases"] = [[alias.address, *alias.targets] for alias in self.aliases]
        for name in ("gone_accounts", "gone_aliases", "epochs"):
            if value := getattr(self, name):
                record[name] = value
        if self.draining is not None:
            record["draining"] = self.draining
        if self.whole:
            record["whole"] = 1
        if self.more:
            record["more"] = 1
        return json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"

    @classmethod
    def decode(cls, line: bytes) -> Delta:
        """Raises ValueError for what `encode` did not write; unknown keys of a newer version are passed over."""
        try:
            record = json.loads(line)
            draining = record.get("draining")
            return cls(
                seq=int(record["seq"]),
                accounts=tuple(_account(row) for row in record.get("accounts", ())),
                aliases=tuple(Alias(row[0], tuple(row[1:])) for row in record.get("aliases", ())),
                gone_accounts=tuple(record.get("gone_accounts", ())),
                gone_aliases=tuple(record.get("gone_aliases", ())),
                draining=None if draining is None else tuple(draining),
                epochs=tuple((key, int(epoch)) for key, epoch in record.get("epochs", ())),
                whole=bool(record.get("whole")),
                more=bool(record.get("more")),
            )
        except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
            raise ValueError(f"no directory delta: {error!r}") from error


def parts(delta: Delta, rows: int = 1000) -> Iterator[Delta]:
    """The same delta in pieces of at most `rows` accounts and aliases, so that nobody stops long to apply one.

    Only a whole directory is cut: its pieces take effect together at the last one. A delta of changes stays one.
    """
    if not delta.whole:
        yield delta
        return
    pieces = [Delta(delta.seq, whole=True, more=True)]
    pieces += [
        Delta(delta.seq, accounts=delta.accounts[start : start + rows], whole=True, more=True)
        for start in range(0, len(delta.accounts), rows)
    ]
    pieces += [
        Delta(delta.seq, aliases=delta.aliases[start : start + rows], whole=True, more=True)
        for start in range(0, len(delta.aliases), rows)
    ]
    yield from pieces
    yield Delta(delta.seq, draining=delta.draining, epochs=delta.epochs, whole=True)


def home(
    primary: str,
    replicas: tuple[str, ...],
    epoch: int,
    pending: bool = False,
    no_modseq: bool = False,
    shown: str = "",
    uidl: str = "",
    modseq_of: str = "",
) -> Home:
    """A Home, the same object for the same values: 100,000 accounts share a few."""
    if shown:  # nobody else's
        return Home(primary, replicas, epoch, pending, no_modseq, shown, uidl, modseq_of)
    return _shared(primary, replicas, epoch, pending, no_modseq, uidl, modseq_of)


@lru_cache(4096)
def _shared(
    primary: str, replicas: tuple[str, ...], epoch: int, pending: bool, no_modseq: bool, uidl: str, modseq_of: str
) -> Home:
    return Home(primary, replicas, epoch, pending, no_modseq, uidl=uidl, modseq_of=modseq_of)


def _account_row(account: Account) -> list[Any]:
    row = [
        account.address,
        account.unit,
        account.home.primary,
        account.home.replicas,
        account.home.epoch,
        account.mailbox,
        account.password,
        account.forward_to,
        int(account.keep_copy),
        int(account.enabled),
        # Since schema 2; an older reader takes the first ten, an older writer ends with them.
        int(account.home.pending),
        int(account.home.no_modseq),
    ]
    if account.home.shown or account.home.uidl or account.home.modseq_of:
        row += (account.home.shown, account.home.uidl, account.home.modseq_of)  # since schema 3
    return row


def _account(row: list[Any]) -> Account:
    address, unit, primary, replicas, epoch, mailbox, password, forward_to, keep_copy, enabled = row[:10]
    pending, no_modseq = row[10:12] if len(row) >= 12 else (0, 0)
    shown, uidl, modseq_of = row[12:15] if len(row) >= 15 else ("", "", "")
    return Account(
        address=address,
        unit=intern(unit),
        home=home(primary, tuple(replicas), int(epoch), bool(pending), bool(no_modseq), shown, uidl, modseq_of),
        mailbox=mailbox,
        password=password,
        forward_to=tuple(forward_to),
        keep_copy=bool(keep_copy),
        enabled=bool(enabled),
    )
