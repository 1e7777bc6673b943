"""From the word in the configuration to the link server.

Knows which kinds there are. Adding one is a file of its own and a line here.
"""

from __future__ import annotations

from collections.abc import Callable

from onedomain.backend.link.base import LinkServer
from onedomain.backend.link.cyrus import CyrusLinks
from onedomain.backend.link.dovecot import DovecotLinks
from onedomain.backend.link.imap_end import ImapLinks
from onedomain.backend.link.node import NodeServer
from onedomain.backend.mailserver import Tools
from onedomain.model.server import Server

KINDS: dict[str, Callable[[Server, Tools], LinkServer]] = {
    "cyrus": CyrusLinks,
    "dovecot": DovecotLinks,
    "imap": ImapLinks,
    "node": NodeServer,
}


def make_link_server(server: Server, tools: Tools) -> LinkServer:
    """Raises KeyError for a kind that links can't use yet."""
    return KINDS[server.kind](server, tools)
