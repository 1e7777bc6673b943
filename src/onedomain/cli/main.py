"""The command `onedomain`: puts its verbs together. Each verb is a file beside this one."""

from __future__ import annotations

import typer

from onedomain import __version__
from onedomain.cli import node, queue
from onedomain.cli.demo import demo
from onedomain.cli.init import init
from onedomain.cli.run import run
from onedomain.cli.status import reload, status
from onedomain.cli.texts import say
from onedomain.cli.trace import trace

app = typer.Typer(name="onedomain", help=say("help"), no_args_is_help=True, add_completion=False,
                  pretty_exceptions_enable=False)

app.command(help=say("init_help"))(init)
app.command(help=say("run_help"))(run)
app.command(help=say("status_help"))(status)
app.command(help=say("trace_help"))(trace)
app.command(help=say("reload_help"))(reload)
app.command(help=say("demo_help"))(demo)
app.add_typer(queue.app, name="queue")
app.add_typer(node.app, name="node")


@app.command(help=say("version_help"))
def version() -> None:
    print(__version__)


def main() -> None:
    app()


if __name__ == "__main__":
    main()
