"""The way out for mail to other domains, as the configuration has it."""

from __future__ import annotations

from onedomain.backend.smarthost import Smarthost
from onedomain.backend.smtp_session import Credentials
from onedomain.config import Config
from onedomain.model.health import Watch
from onedomain.model.ports import Nonce
from onedomain.net.tls import ClientContexts


def outside(config: Config, contexts: ClientContexts, watch: Watch, nonce: Nonce) -> Smarthost | None:
    """None where no smarthost is configured: dispatch then says that there is no way, and so does `check`."""
    table, endpoint = config.smarthost, config.smarthost_endpoint
    if table is None or endpoint is None:
        return None
    credentials = Credentials(table.user, table.password) if table.user else None
    return Smarthost(endpoint, hello=config.name, contexts=contexts, watch=watch, nonce=nonce,
                     credentials=credentials, connections=table.max_deliveries)
