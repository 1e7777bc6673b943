"""The directory's password hashes as log-ins see them: right or wrong, never an error."""

from __future__ import annotations

import asyncio
from functools import partial

from onedomain.directory.credentials import CredentialError, verify
from onedomain.model.ports import Trace


class Hashes:
    """Implements edge.login.Passwords. Made in the loop, called in threads."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._loop = asyncio.get_running_loop()

    def verify(self, hash: str, password: str) -> bool:
        try:
            return verify(hash, password)
        except CredentialError as error:
            # Import refuses such hashes; one that came by another way lets nobody in, and is told.
            note = partial(self._trace.note, "password unreadable", reason=str(error))
            self._loop.call_soon_threadsafe(note)
            return False
