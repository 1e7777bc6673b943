"""What of a configuration can change while sessions go on, and what needs a restart. Pure."""

from __future__ import annotations

from onedomain.config import Config


def needs_restart(old: Config, new: Config) -> list[str]:
    """Names of the parts that differ and were settled before the fork, or at a process's start."""
    found = []
    if old.listeners != new.listeners:
        found.append("listener")
    # New contents of the same certificate files need none.
    for part in ("tls", "edge", "directory", "smarthost", "resolver", "metrics", "log", "limits", "retry", "health",
                 "failover", "links", "alerts"):
        if getattr(old.file, part) != getattr(new.file, part):
            found.append(part)
    if old.file.domain[0].name != new.file.domain[0].name:
        found.append("domain")  # what bounces and sessions call us
    return found
