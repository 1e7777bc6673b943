"""A side that was put back to an earlier time: how it is told from folders that were renamed, deleted or made again,
and what a link forgets then.

Knows names and marks. Does not know messages, but that they are paired again, adding only.
"""

from __future__ import annotations

from dataclasses import replace

from onedomain.decision.link.actions import Alert, ListFolders, Plan, Save
from onedomain.decision.link.folders import INBOX, Matched, match, meant, restored, wiped
from onedomain.decision.link.order import Order
from onedomain.model.replica import FolderLink, LinkState, Listing, Mark, Side


def put_back(state: LinkState, matched: Matched, here: Listing, there: Listing, order: Order) -> Plan[str | None]:
    """Why the link has to be paired again, which is saved then; "": nothing is sure yet, None: nothing was put back."""
    present = [(link, here.find(link.source_name), there.find(link.target_name)) for link in matched.links]
    back = [restored(link, folder.mark) for link, folder, _ in present if folder is not None and not link.gone]
    wipes = [wiped(link, folder.mark if folder else None) for link, _, folder in present if not link.gone]
    reasons = [reason for reason in (*back, *wipes) if reason]
    if any(back):
        # A list is not made in one moment: an INBOX that is renamed meanwhile is in it as neither.
        again: Listing = yield ListFolders(Side.SOURCE)
        if shape_of(again) != shape_of(here):
            return ""
    if reasons:
        yield Alert("", f"link stopped, pairing again: {'; '.join(reasons)}")
        # What only a returned primary has stays unwanted, unless the new one was put back: it may be what that lost.
        surplus = state.surplus and not any(back)
        commanded = meant(order.commanded, state.folders, here.separator)
        # Nor did anybody delete what a primary that was put back has lost by it, unless a command says so.
        now = [
            (link, was) for link, was in zip(matched.links, state.folders, strict=True)
            if was.gone or not link.gone or not any(back) or was.source_name in commanded
        ]
        if len(now) < len(state.folders):
            yield Alert("", f"{len(state.folders) - len(now)} folders are on the replica only now; they are kept")
        folders = tuple(replace(forgotten(link), gone=was.gone) for link, was in now)
        yield Save(replace(state, folders=folders, surplus=surplus, whole=False))
        return "; ".join(reasons)
    return None


def inbox_left(state: LinkState, here: Listing, order: Order) -> bool:
    """Somebody renamed INBOX, and nothing looks as if the account had been lost at that moment: no folder is missing
    that nobody deleted.
    """
    if not order.renamed or INBOX not in meant(order.renamed, state.folders, here.separator):
        return False
    commanded = meant(order.commanded, state.folders, here.separator)
    now = match(state, here).links
    return not any(
        link.gone and not was.gone and was.source_name not in commanded
        for link, was in zip(now, state.folders, strict=True)
    )


def forgotten(link: FolderLink) -> FolderLink:
    """Names stay, UIDs are looked at again."""
    return FolderLink(
        link.source_name, link.target_name, link.identity, untaken=link.untaken, gone=link.gone,
        shown=shown_until(link, link.source), special_use=link.special_use, renamed=link.renamed,
    )


def shape_of(listing: Listing) -> frozenset[tuple[str, str, int]]:
    """Which folders there are, whatever is in them."""
    return frozenset((folder.name, folder.identity, folder.mark.uidvalidity) for folder in listing.folders)


def shown_until(link: FolderLink, now: Mark) -> Mark:
    """How far clients may have seen the source, which is here `now`, or was."""
    before = link.shown
    if before.uidvalidity != now.uidvalidity:
        return now if now.uidvalidity else before
    return Mark(now.uidvalidity, max(before.uidnext, now.uidnext), max(before.modseq, now.modseq))
