"""Dovecot, from 2.2.

Knows what Dovecot does differently. It takes the client's address from IMAP's ID fields, if ours is among its
login_trusted_networks; a master user logs in as `user*master`; its LMTP has no DSN and, before 2.4, no SMTPUTF8.
With its acl plugin a master user sees only what the master has rights to, unless `acl_user = %u` is set. A Sieve
script's discard or redirect leaves nothing that a look-up could find.
"""

from __future__ import annotations

from typing import ClassVar

from onedomain.backend.mailserver import MailServer, Traits


class Dovecot(MailServer):
    traits: ClassVar[Traits] = Traits(takes_identity=True)
