"""Logging in to submit mail: the shared log-in, with the home's own answer where we keep no password (RFC 4954, 6409).

Knows whom to ask. Does not know SMTP: edge/smtp.py does, and asks this one through smtp_ports.Authenticator.
"""

from __future__ import annotations

from collections.abc import Callable

from onedomain.backend.base import Backend, ClientInfo
from onedomain.edge.login import Admission, LogIns
from onedomain.model.account import Account
from onedomain.protocol.sasl import Credentials


class SubmissionLogIn:
    """`backends` gives the backend of a server by its name; raises Failed where there is none."""

    def __init__(self, log_ins: LogIns, backends: Callable[[str], Backend]) -> None:
        self._log_ins = log_ins
        self._backends = backends

    def at_once(self, credentials: Credentials, address: str) -> Account | None:
        """Not where the home decides: it may have another password by now, and is asked each time."""
        admission = self._log_ins.at_once(credentials, address)
        if admission is None or not admission.verified:
            return None
        self._log_ins.let_in(admission, address, "submission", 0.0)
        return admission.account

    async def check(self, credentials: Credentials, client: tuple[str, int], local: tuple[str, int]) -> Account:
        """The account. Raises Failed: 535 for whatever is wrong, 454 where the home can't be asked."""
        address, port = client
        info = ClientInfo(address, port, local[0], local[1])

        async def enter(admission: Admission) -> None:
            # Ours was right: whoever submits mail need not wait for a home that is down.
            if not admission.verified:
                home = self._backends(admission.account.home.primary)
                await home.check_password(admission.account, admission.password, info)

        account, _ = await self._log_ins.log_in(credentials, address, "submission", enter)
        return account
