"""Why a link stands still, as one of a few words: a label of metrics must not grow with what servers say.

Knows failures' codes (RFC 3463). Does not know links; the words for people are the failures' own.
"""

from __future__ import annotations

from enum import Enum

from onedomain.model.failure import Failure


class Stop(Enum):
    SERVER = "server"  # it is down, fails, or is too busy
    LOGIN = "login"    # it does not let us in
    TLS = "tls"
    ROOM = "room"      # no space, or no quota, or too much that the replica refuses
    ANSWER = "answer"  # what it says can't be understood
    OTHER = "other"


def stop_of(failure: Failure) -> Stop:
    status = failure.enhanced.partition(".")[2]  # the class says only for how long
    subject = status.partition(".")[0]
    if status in ("2.2", "2.3", "3.1", "3.4"):
        return Stop.ROOM
    if status in ("7.4", "7.5"):
        return Stop.TLS
    if subject == "7":
        return Stop.LOGIN
    if subject == "4" or status == "3.2":
        return Stop.SERVER
    return Stop.ANSWER if subject in ("5", "6") else Stop.OTHER
