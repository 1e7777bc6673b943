"""The way out for mail to other domains, as the configuration has it."""

from __future__ import annotations

from onedomain.backend.base import Backend
from onedomain.backend.equals import Equals
from onedomain.backend.smarthost import Smarthost
from onedomain.backend.smtp_session import Credentials
from onedomain.config import Config
from onedomain.model.health import Watch
from onedomain.model.ports import Nonce
from onedomain.net.tls import ClientContexts


def outside(config: Config, contexts: ClientContexts, watch: Watch, nonce: Nonce) -> Backend | None:
    """None where no smarthost is configured: dispatch then says that there is no way, and so does `check`."""
    made = smarthosts(config, contexts, watch, nonce)
    return Equals(made, nonce.random) if len(made) > 1 else made[0] if made else None


def smarthosts(config: Config, contexts: ClientContexts, watch: Watch, nonce: Nonce) -> list[Smarthost]:
    """One for each host that is named."""
    table = config.smarthost
    if table is None:
        return []
    credentials = Credentials(table.user, table.password) if table.user else None
    return [Smarthost(endpoint, hello=config.name, contexts=contexts, watch=watch, nonce=nonce,
                      credentials=credentials, connections=table.max_deliveries)
            for endpoint in config.smarthost_endpoints]
