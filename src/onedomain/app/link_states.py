"""The states of links, in the directory's database under the linker's lease.

Knows which saved state is of the home that an account has now. Does not know what a state means, nor whose turn it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from onedomain.app.promotions import answered
from onedomain.app.standing import Standing
from onedomain.directory.links import Links, SavedLink
from onedomain.model.account import Account
from onedomain.model.ports import Clock
from onedomain.model.replica import LinkState
from onedomain.replica.saving import Saving
from onedomain.store.sql import Database


class LinkStates:
    """A replica.parts.States. `token`: the lease's, 0: it is lost. Each raises Failed where the database is away."""

    def __init__(self, database: Standing, clock: Clock, token: Callable[[], int]) -> None:
        self._database = database
        self._clock = clock
        self._token = token

    async def load(self, account: Account) -> LinkState | None:
        found = await answered(self._database, lambda database: Links(database, self._clock).load(account.address))
        return next((saved.state for saved in found if _is_for(saved, account)), None)

    async def save(self, savings: Sequence[Saving]) -> frozenset[str]:
        """The accounts whose states are durable now."""
        token = self._token()
        rows = [SavedLink(each.account, each.source, each.target, each.epoch, each.state) for each in savings]
        accepted = frozenset(each.account for each in savings if each.accepted)
        if not token:
            return frozenset()
        return await answered(
            self._database, lambda database: Links(database, self._clock).save(rows, token, accepted))

    async def accept(self, account: Account) -> bool:
        """What a brake stops in its link as it is saved may be deleted; see directory/links.py."""
        token = self._token()
        return await answered(self._database, lambda database: Links(database, self._clock).accept(
            account.address, account.home.epoch, token))

    async def tell_all(
        self, account: Callable[[str], Account | None], tell: Callable[[str, LinkState, float], None]
    ) -> None:
        """Of all accounts that have a link, never all in memory at once."""

        async def ask(database: Database) -> None:
            async for saved in Links(database, self._clock).all():
                found = account(saved.account)
                if found is not None and _is_for(saved, found):
                    tell(saved.account, saved.state, saved.accepted)

        await answered(self._database, ask)


def _is_for(saved: SavedLink, account: Account) -> bool:
    home = account.home
    return (saved.source, saved.epoch) == (home.primary, home.epoch) and saved.target in home.replicas[:1]
