"""Whether a message goes round in circles.

Knows how many hops are too many. Does not know how they were counted.
"""

from __future__ import annotations

from collections.abc import Sequence

from onedomain.model.failure import Failure, refuse

MAX_RECEIVED = 50  # RFC 5321 section 6.3: at least 100 is asked for; Postfix and Exchange cut at 50 and 30
MAX_OWN = 5
"""A message that came through our edges so often has been sent back to us every time: by a mailing list once, by an
alias that leads out and back perhaps twice."""


def find_loop(
    received: int, hops: Sequence[str], cluster: str, *, max_received: int = MAX_RECEIVED, max_own: int = MAX_OWN
) -> Failure | None:
    """`received` is the count of Received fields, `hops` the clusters that trace fields name. 554 5.4.6, or None."""
    own = sum(1 for hop in hops if hop == cluster.lower())
    if own >= max_own:
        return refuse(554, "5.4.6", "mail loop: the message has come back to us too often",
                      f"{own} trace fields of {cluster}")
    if received > max_received:
        return refuse(554, "5.4.6", "mail loop: too many hops", f"{received} Received fields")
    return None
