"""Any server with IMAP4rev1 and LMTP or SMTP of which nothing more is known.

Knows nothing special: what the server announces is what it is asked for, and the client's address is kept to ourselves.
"""

from __future__ import annotations

from onedomain.backend.mailserver import MailServer


class Imap(MailServer):
    pass
