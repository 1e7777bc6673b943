"""Accounts and aliases as rows of the directory's database, and back.

Knows columns. Does not know queries, nor what a row may contain (rules).
"""

from __future__ import annotations

import json
from sys import intern
from typing import Any

from sqlalchemy import Row

from onedomain.directory.delta import home
from onedomain.model.account import Account, Alias


def account_of(row: Row[Any]) -> Account:
    """Of a whole row, its columns in the order of the schema: there are many of them at a start."""
    (address, unit, primary, replicas, epoch, mailbox, password, forward_to, keep_copy, enabled, pending,
     no_modseq, shown, uidl, modseq_of) = tuple(row)
    return Account(
        address=address,
        unit=intern(unit),
        home=home(primary, _list(replicas), int(epoch), bool(pending), bool(no_modseq), shown, uidl, modseq_of),
        mailbox=mailbox,
        password=password,
        forward_to=_list(forward_to),
        keep_copy=bool(keep_copy),
        enabled=bool(enabled),
    )


def account_row(account: Account) -> dict[str, Any]:
    """All columns."""
    return {
        "address": account.address,
        "unit": account.unit,
        "primary_server": account.home.primary,
        "replicas": _text(account.home.replicas),
        "epoch": account.home.epoch,
        "mailbox": account.mailbox,
        "password": account.password,
        "forward_to": _text(account.forward_to),
        "keep_copy": account.keep_copy,
        "enabled": account.enabled,
        "pending": account.home.pending,
        "no_modseq": account.home.no_modseq,
        "shown": account.home.shown,
        "uidl": account.home.uidl,
        "modseq_of": account.home.modseq_of,
    }


def alias_of(row: Row[Any]) -> Alias:
    return Alias(row.address, _list(row.targets))


def alias_row(alias: Alias) -> dict[str, Any]:
    return {"address": alias.address, "targets": _text(alias.targets)}


def _text(values: tuple[str, ...]) -> str:
    return json.dumps(values, ensure_ascii=False) if values else "[]"


def _list(text: str) -> tuple[str, ...]:
    return () if text == "[]" else tuple(json.loads(text))
