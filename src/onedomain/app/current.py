"""The configuration in force, kept by the supervisor: what every process starts with, whatever the file says by then.

Knows when a new one may be taken over: file and certificates together, or nothing of them. Does not know processes.
"""

from __future__ import annotations

from onedomain.app.handed import Handed
from onedomain.app.privileges import raised
from onedomain.config import Config, ConfigErrors, load
from onedomain.model.ports import Trace
from onedomain.net.tls import CertificateError, ServerContexts


class Current:
    """What is forked after `reload` finds `config` and certificates as that left them: a worker that replaces a dead
    one must neither bring back an old certificate nor fail because the file is being edited. Those that run already
    find them in `handed`.
    """

    def __init__(self, config: Config, contexts: ServerContexts | None, handed: Handed, trace: Trace) -> None:
        self.config = config
        self._contexts = contexts
        self._handed = handed
        self._trace = trace

    def reload(self) -> bool:
        """True if the others are to follow; what is wrong changes nothing and is told in the log."""
        try:
            with raised():
                new = load(self.config.path)
                certificates = self._contexts.read() if self._contexts is not None else ()
            if self._contexts is not None:
                self._contexts.use(certificates)
        except (ConfigErrors, CertificateError) as problems:
            self._trace.note("configuration refused", reason=str(problems))
            self._handed.put(str(problems))
            return False
        self.config = new
        self._handed.put("", new, certificates)
        return True
