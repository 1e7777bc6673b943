"""From the word in the configuration to the backend.

Knows which kinds there are. Adding one is a file of its own and a line here.
"""

from __future__ import annotations

from onedomain.backend.cyrus import Cyrus
from onedomain.backend.dovecot import Dovecot
from onedomain.backend.imap import Imap
from onedomain.backend.mailserver import MailServer, Tools
from onedomain.backend.node import Node
from onedomain.model.server import Server

KINDS: dict[str, type[MailServer]] = {"dovecot": Dovecot, "cyrus": Cyrus, "imap": Imap, "node": Node}


def make_backend(server: Server, tools: Tools) -> MailServer:
    """Raises KeyError for a kind that is not in KINDS; the configuration checks it before."""
    return KINDS[server.kind](server, tools)
