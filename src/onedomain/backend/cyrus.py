"""Cyrus IMAP, from 3.0.

Knows what Cyrus does differently. It leaves Nagle's algorithm on, which stalls answers by 40 ms unless every packet is
acknowledged at once (measured). An administrator or proxy user logs in with the user's name as SASL authorisation
identity. Its search index is only a filter before the messages themselves are read, so a look-up sees what was just
delivered. With `duplicatesuppression` on (the default) a message of the same Message-ID gets 250 and vanishes.
"""

from __future__ import annotations

from typing import ClassVar

from onedomain.backend.mailserver import MailServer, Traits


class Cyrus(MailServer):
    traits: ClassVar[Traits] = Traits(quick_ack=True)
