"""Whether MODSEQs that clients remember of a server mean anything there now.

Knows what a link noted of folders. Does not know which client asks, nor what it is shown.
"""

from __future__ import annotations

from onedomain.model.replica import LinkState, Listing


def modseqs_go_on(was: LinkState, now: Listing) -> bool:
    """Whether every folder that a client may know MODSEQs of, from when this server was the primary (`was`, there it is
    the source), is the same one: changes that a link carried there since have MODSEQs above. A folder that was made
    anew after a loss counts from 1, and its clients would be told of nothing.

    Only for servers that make identities by themselves: elsewhere a link may have given it.
    """
    known = {link.source.uidvalidity: link for link in was.folders if not link.gone}
    for folder in now.folders:
        link = known.get(folder.mark.uidvalidity)
        if link is None:
            continue
        if not link.identity or folder.identity != link.identity or folder.mark.modseq < link.source.modseq:
            return False
    return True
