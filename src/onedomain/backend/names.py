"""How a server calls an account: at log-in and in RCPT TO.

Knows the two formats of the configuration. Does not know which server an account is on.
"""

from __future__ import annotations

import re

from onedomain.model.account import Account
from onedomain.model.server import Server

USUAL = ("{local}@{domain}", "{local}{tag}@{domain}")
"""What most servers are told, at log-in and in RCPT TO."""

_FIELD = re.compile(r"\{(?:local|domain|tag)\}")


def mailbox_name(server: Server, account: Account) -> str:
    """What is said at log-in."""
    return _fill(server.mailbox_format, account, "")


def recipient_name(server: Server, account: Account, address: str, separator: str = "+") -> str:
    """What RCPT TO says for mail to `address`, whose tag goes along; the rest is the account's mailbox."""
    local = address.rpartition("@")[0]
    base, found, tag = local.partition(separator) if separator else (local, "", "")
    # The account's own name may hold the separator: then nothing of it is a tag.
    own = account.address.rpartition("@")[0]
    has_tag = found and base and own.partition(separator)[1] == ""
    return _fill(server.rcpt_format, account, f"{separator}{tag}" if has_tag else "")


def _fill(form: str, account: Account, tag: str) -> str:
    local, at, domain = account.mailbox_name.rpartition("@")
    if not at:
        local, domain = account.mailbox_name, account.address.rpartition("@")[2]
    if form == USUAL[1] or (form == USUAL[0] and not tag):
        return f"{local}{tag}@{domain}"
    values = {"{local}": local, "{domain}": domain, "{tag}": tag}
    return _FIELD.sub(lambda name: values[name[0]], form)
