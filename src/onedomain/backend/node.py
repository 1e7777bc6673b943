"""Our own mail server.

Knows what the node does differently: it is told the client's address, and it refuses a delivery id that it has already.
"""

from __future__ import annotations

from typing import ClassVar

from onedomain.backend.mailserver import MailServer, Traits


class Node(MailServer):
    traits: ClassVar[Traits] = Traits(takes_identity=True)
