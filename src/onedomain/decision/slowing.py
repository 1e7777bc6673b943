"""How long a log-in has to wait after failures before it.

Knows figures (failures from the client's address, at the account, from the network around the address, all fading with
time) and whether this address has lately logged in to this account. Does not know where they are kept, and never
refuses: someone who keeps guessing at an account slows its owner down at an address that is new to it, and nowhere
else.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Slowing:
    """`free_...` failures cost nothing: people mistype, and several devices keep an old password.

    From there the wait doubles with each failure, from `first` to `longest` seconds.
    """

    free_of_address: float = 3.0
    free_of_account: float = 5.0
    free_of_network: float = 10.0
    first: float = 1.0
    longest: float = 15.0

    def wait(
        self, address_failures: float, account_failures: float, network_failures: float = 0.0, *, known: bool
    ) -> float:
        """Seconds. `known`: the address has lately logged in to the account."""
        for_address = self._grown(address_failures - self.free_of_address)
        if known:
            return for_address
        return max(
            for_address,
            self._grown(account_failures - self.free_of_account),
            self._grown(network_failures - self.free_of_network),
        )

    def _grown(self, over: float) -> float:
        # Counts fade, so they are no whole numbers: what is less than one failure over is none.
        if over < 0.5:
            return 0.0
        return float(min(self.longest, self.first * 2.0 ** min(over - 1.0, 30.0)))
