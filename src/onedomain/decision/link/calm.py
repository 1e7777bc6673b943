"""Whether two sides, as they were listed, are what the last pass of their link left.

Knows marks and names. Says yes only where a pass would do nothing: with thousands of folders looked at every few
minutes, that is nearly all that links do.
"""

from __future__ import annotations

from onedomain.decision.link.folders import target_name
from onedomain.model.replica import Folder, FolderLink, LinkState, Listing


def calm(state: LinkState, here: Listing, there: Listing) -> bool:
    if state.surplus or not state.whole or len(here.folders) != len(state.folders):
        return False
    sources = {folder.name: folder for folder in here.folders}
    targets = {folder.name: folder for folder in there.folders}
    return all(
        (source := sources.get(link.source_name)) is not None
        and (target := targets.get(link.target_name)) is not None
        and _as_left(link, source, target)
        and (link.renamed or _is_named(link, here, there))
        for link in state.folders
    )


def _is_named(link: FolderLink, here: Listing, there: Listing) -> bool:
    one, other = link.source_name, link.target_name
    return target_name(one, here, there, ()) == other and target_name(other, there, here, ()) == one


def _as_left(link: FolderLink, source: Folder, target: Folder) -> bool:
    return (
        bool(link.source.modseq) and link.settled
        and source.mark == link.source and target.mark == link.target
        and source.identity == link.identity and source.special_use == link.special_use
        and source.subscribed == target.subscribed and not link.asked
        and not (link.gone or link.braked or link.doomed or link.surplus or link.becoming)
        and not (link.unmarked or link.marked)
    )


def only_grown(earlier: Listing, now: Listing) -> bool:
    """Of the same folders: every UID that was given between the two is there, and so is all that was there."""
    then = {folder.name: folder.mark for folder in earlier.folders}
    return all(
        0 <= folder.mark.uidnext - then[folder.name].uidnext == folder.mark.messages - then[folder.name].messages
        for folder in now.folders
    )
