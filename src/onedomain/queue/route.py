"""Which server a target goes to now, what RCPT TO says there, and whether that has changed since.

Asks the directory at every try: people move. Knows accounts and homes. Does not know whether a server is up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from onedomain.backend.names import recipient_name
from onedomain.decision.net import is_linked
from onedomain.model.account import Account, DirectoryView
from onedomain.model.failure import Failure, again
from onedomain.model.message import Outcome, State, Target
from onedomain.model.server import Server
from onedomain.queue.entry import Entry, Progress

SMARTHOST = "smarthost"
NOWHERE = ""  # the lane of targets that no server keeps now

NO_ACCOUNT = again(450, "4.2.1", "Mailbox is not known at present", "the account is not in the directory any more")


def route(view: DirectoryView, target: Target) -> str | Failure:
    """Name of the server. A failure of kind AGAIN: nowhere now; a directory may be behind, or mended."""
    if not target.is_local:
        return SMARTHOST
    account = view.account(target.account)
    return account.home.primary if account is not None else NO_ACCOUNT


def whereabouts(view: DirectoryView, entry: Entry) -> list[tuple[int, str, bool]]:
    """(index, server, in doubt) of each target that is not final."""
    found = []
    for index, target in enumerate(entry.envelope.targets):
        progress = entry.of(index)
        if progress.final:
            continue
        doubt = progress.state is State.IN_DOUBT
        server = progress.server if doubt and not _overtaken(view, target, progress) else ""
        if not server:
            where = route(view, target)
            server = NOWHERE if isinstance(where, Failure) else where
        found.append((index, server, doubt))
    return found


def _overtaken(view: DirectoryView, target: Target, progress: Progress) -> bool:
    """Doubt belongs to the server that may have the message, unless another one has been promoted since.

    Then what the link carried decides: it is looked up on the new primary, and if it is not there it is delivered there
    as any other, by LMTP. That server never said 250, so it is no case for the safety net: put into INBOX by APPEND the
    message would miss the filters, and if the old server had not taken it (which is likelier: it was dying), none ever
    ran. If it had, an answer of a vacation may go out twice, as after any lost answer; the message itself stays one,
    for at the old server's return its tail is matched by delivery id.
    """
    if not progress.epoch:
        return False
    account = view.account(target.account)
    return account is not None and account.home.epoch > progress.epoch and account.home.primary != progress.server


def epochs(view: DirectoryView, entry: Entry, indexes: Iterable[int]) -> dict[int, int]:
    """Of the homes that a link runs for, by index of target."""
    found: dict[int, int] = {}
    targets = entry.envelope.targets
    for index in indexes:
        account = view.account(name) if (name := targets[index].account) else None
        if account is not None and account.home.replicas and is_linked(view, account):
            found[index] = account.home.epoch
    return found


def found_epochs(view: DirectoryView, entry: Entry, server: str, settled: Mapping[int, Outcome]) -> dict[int, int]:
    """What was found is held for the home as it is now, unless that is elsewhere: then as it was at the attempt, and
    the safety net sees to it.
    """
    targets = entry.envelope.targets
    here = [index for index, outcome in settled.items() if outcome.state is State.DONE
            and (account := view.account(targets[index].account)) and account.home.primary == server]
    return epochs(view, entry, here)


def unchanged(
    view: DirectoryView, entry: Entry, server: str, epochs: Mapping[int, int], fence: Callable[[Account], bool]
) -> bool:
    """Whether homes are as they were when the delivery began, and may be written to by us."""
    targets = entry.envelope.targets
    accounts = [(view.account(targets[index].account), epoch) for index, epoch in epochs.items()]
    return all(
        account is not None and account.home.epoch == epoch and account.home.primary == server and fence(account)
        for account, epoch in accounts)


def pending(view: DirectoryView, entry: Entry, indexes: Iterable[int]) -> dict[int, str]:
    """Accounts of those targets whose server was promoted a moment ago: not to be asked or given anything before the
    promotion's plan has been carried out there.
    """
    targets = entry.envelope.targets
    return {index: name for index in indexes
            if (account := view.account(name := targets[index].account)) and account.home.pending}


def rcpt(view: DirectoryView, server: Server, target: Target) -> str:
    """What RCPT TO says of the target at this server."""
    account = view.account(target.account) if target.is_local else None
    if account is None:
        return target.address
    domain = view.domain(account.address.rpartition("@")[2])
    return recipient_name(server, account, target.address, domain.tag_separator if domain else "+")
