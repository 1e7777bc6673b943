"""`onedomain run`: an edge in the foreground."""

from __future__ import annotations

import typer

from onedomain.app import edge
from onedomain.cli.common import ConfigPath, configuration, fail
from onedomain.model.failure import Failed
from onedomain.net.tls import CertificateError


def run(config: ConfigPath) -> None:
    settings = configuration(config)
    try:
        status = edge.run(settings)
    except Failed as error:
        fail(error.failure.reason)
    except CertificateError as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error.filename or settings.state}: {error.strerror or error}")
    raise typer.Exit(status)
