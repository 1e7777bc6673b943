"""An IMAP client that writes every change it asks for into the ledger, and one that asks at random.

RFC 9051; UIDPLUS (RFC 4315) and MOVE (RFC 6851) are needed. Finds its messages by their tokens, so that it can go on
after a reconnection; tokens are of one length, since SEARCH HEADER also finds parts of words. Keeps each message at
most once in a folder, so that the ledger can say which flags are whose.
"""

from __future__ import annotations

import imaplib
import random
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from onedomain.ledger.corpus import TOKEN_HEADER, Corpus
from onedomain.ledger.ledger import ACKED, APPEND, COPY, EXPUNGE, MOVE, REFUSED, STORE, UNKNOWN, Ledger, Sent
from onedomain.ledger.verify import Mailbox

RECENT = 200
"""Messages at the end of a folder where those of a session are looked for first."""
FLAGS = (r"\Seen", r"\Flagged", r"\Answered", "$Forwarded")


class Client:
    """One session of one account. Every method returns the state it wrote: acked, refused, or unknown.

    After `unknown` the session is dead: `connected` is False and `connect` makes another.
    """

    def __init__(self, mailbox: Mailbox, ledger: Ledger) -> None:
        self.mailbox, self.ledger = mailbox, ledger
        self.connected = False
        self._session: imaplib.IMAP4
        self._selected: str | None = None
        self._recent = 1  # from which UID on messages of the selected folder are young

    def connect(self) -> None:
        self._session = self.mailbox.open()
        self._selected = None
        self.connected = True

    def close(self) -> None:
        if self.connected:
            self.connected = False
            try:
                self._session.logout()
            except (OSError, imaplib.IMAP4.error):
                self._session.shutdown()

    def create(self, folder: str) -> None:
        """Make a folder if it isn't there; not part of the ledger."""
        self._session.create(folder)

    def append(self, folder: str, message: bytes, token: str, flags: Sequence[str] = ()) -> str:
        act = self._begin(APPEND, token, sent=Sent.of(message), folder=folder, added=list(flags))
        return self._do(act, lambda: self._append(folder, flags, message))

    def copy(self, token: str, folder: str, target: str) -> str:
        return self._on(COPY, token, folder, ("COPY", target), target=target)

    def move(self, token: str, folder: str, target: str) -> str:
        return self._on(MOVE, token, folder, ("MOVE", target), target=target)

    def store(self, token: str, folder: str, added: Sequence[str] = (), removed: Sequence[str] = ()) -> str:
        """Add or remove flags, one of the two in a call: an act is one command."""
        item, flags = ("+FLAGS", added) if added else ("-FLAGS", removed)
        words = ("STORE", item, f"({' '.join(flags)})")
        return self._on(STORE, token, folder, words, added=list(added), removed=list(removed))

    def expunge(self, token: str, folder: str) -> str:
        """Mark as deleted and expunge this one message; in doubt as soon as the mark is set."""
        uid = self._find(token, folder)
        act = self._begin(EXPUNGE, token, folder=folder)
        return self._do(act, lambda: self._expunge(uid))

    def _expunge(self, uid: str) -> tuple[str, list[Any]]:
        self._session.uid("STORE", uid, "+FLAGS.SILENT", r"(\Deleted)")
        return self._session.uid("EXPUNGE", uid)

    def _append(self, folder: str, flags: Sequence[str], message: bytes) -> tuple[str, list[Any]]:
        # imaplib turns bare CR and LF into CRLF, which the corpus has none of.
        return self._session.append(folder, f"({' '.join(flags)})", None, message)

    def _on(self, op: str, token: str, folder: str, words: Sequence[str], **details: Any) -> str:
        uid = self._find(token, folder)
        act = self._begin(op, token, folder=folder, **details)
        return self._do(act, lambda: self._session.uid(words[0], uid, *words[1:]))

    def _find(self, token: str, folder: str) -> str:
        """The UID of the one message with this token; LookupError if it isn't there."""
        if self._selected != folder:
            status, answer = self._session.select(folder)
            if status != "OK":
                raise LookupError(f"{folder}: {answer!r}")
            self._selected = folder
            self._recent = max(1, int(self._session.response("UIDNEXT")[1][0] or 1) - RECENT)
        # Among the youngest first: some servers read every message for this, and nobody is to be measured by that.
        for among in (("UID", f"{self._recent}:*"), ()):
            status, answer = self._session.uid("SEARCH", *among, "HEADER", TOKEN_HEADER, token)
            if status == "OK" and answer[0]:
                return str(answer[0].split()[-1].decode())
        raise LookupError(f"no {token} in {folder}")

    def _begin(self, op: str, token: str, **details: Any) -> str:
        return self.ledger.begin(op, self.mailbox.account, token, server=self.mailbox.server, **details)

    def _do(self, act: str, command: Any) -> str:
        try:
            status, answer = command()
        except (OSError, imaplib.IMAP4.abort) as failure:
            self.ledger.settle(act, UNKNOWN, repr(failure))
            self.connected = False
            self._session.shutdown()
            return UNKNOWN
        except imaplib.IMAP4.error as failure:  # BAD
            status, answer = "BAD", [str(failure).encode()]
        state = ACKED if status == "OK" else REFUSED
        text = b" ".join(part for part in answer if isinstance(part, bytes)).decode("utf-8", "replace")
        self.ledger.settle(act, state, f"{status} {text}")
        return state


def work(
    client: Client,
    count: int,
    seed: int = 0,
    folders: Sequence[str] = ("INBOX", "Work", "Trash"),
    *,
    pace: float = 0.0,
    ended: Callable[[], bool] = lambda: False,
) -> int:
    """Up to `count` random changes to messages of its own, with `pace` seconds in between; how many were acknowledged.

    Ends early, without an error, when the connection is lost (what was under way is in the ledger as unknown), and when
    `ended` says so.
    """
    rng = random.Random(f"{seed}/{client.mailbox.account}")
    corpus = Corpus(seed, kinds=("plain", "utf8", "shift_jis", "iso_2022_jp"), max_size=4096)
    run = uuid.uuid4().hex[:8]
    places: dict[str, set[str]] = {}
    acked = 0
    for folder in folders:
        client.create(folder)
    for number in range(count):
        if not client.connected or ended():
            return acked
        if pace:
            time.sleep(pace)
        token, here, there = _choose(rng, places, folders)
        if token is None:
            token, folder = f"{run}-{number:08}", rng.choice(folders)
            account = client.mailbox.account
            message = corpus.message(number, token, "client@example.org", [account]).data
            if client.append(folder, message, token, rng.sample(FLAGS, rng.randrange(3))) == ACKED:
                places[token] = {folder}
                acked += 1
            continue
        if _change(client, rng, token, here, there, places[token]) == ACKED:
            acked += 1
    return acked


def _choose(
    rng: random.Random, places: dict[str, set[str]], folders: Sequence[str]
) -> tuple[str | None, str, str | None]:
    """A message with a folder it is in and one it is not in; None for a new one."""
    living = [token for token, where in places.items() if where]
    if not living or rng.random() < 0.3:
        return None, "", None
    token = rng.choice(living)
    elsewhere = [folder for folder in folders if folder not in places[token]]
    return token, rng.choice(sorted(places[token])), rng.choice(elsewhere) if elsewhere else None


def _change(client: Client, rng: random.Random, token: str, here: str, there: str | None, places: set[str]) -> str:
    what = rng.choice((STORE, STORE, STORE, COPY, MOVE, MOVE, EXPUNGE))
    if what == EXPUNGE:
        state = client.expunge(token, here)
        if state == ACKED:
            places.discard(here)
    elif what == STORE or there is None:
        flags = rng.sample(FLAGS, 1)
        state = client.store(token, here, **{rng.choice(("added", "removed")): flags})
    elif what == COPY:
        state = client.copy(token, here, there)
        if state == ACKED:
            places.add(there)
    else:
        state = client.move(token, here, there)
        if state == ACKED:
            places.discard(here)
            places.add(there)
    return state
