"""`onedomain demo`: the whole on one machine, with two kills and a ledger."""

from __future__ import annotations

import shutil
import signal
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from onedomain.cli.common import AsJson, console, errors, fail
from onedomain.cli.texts import say
from onedomain.demo import scenario
from onedomain.demo.scenario import Ending, Pace, Scenario
from onedomain.demo.stage import DOMAIN, Stage, StageError
from onedomain.demo.texts import say as tell


def demo(
    leave: Annotated[bool, typer.Option("--exit", help=say("demo_exit_help"))] = False,
    folder: Annotated[Path | None, typer.Option(help=say("demo_folder_help"))] = None,
    json: AsJson = False,
) -> None:
    out = errors if json else console
    place = folder or Path(tempfile.mkdtemp(prefix="onedomain-demo-"))
    place.mkdir(parents=True, exist_ok=True)
    if any(place.iterdir()):
        fail(say("demo_not_empty", path=place), 2)
    try:
        stage = Stage(place)
    except StageError as error:
        fail(str(error))
    try:
        out.print(tell("intro", domain=DOMAIN, folder=place), soft_wrap=True)
        stage.start(lambda name: out.print(tell("up", name=name)))
        play = Scenario(stage, out, Pace())
        ending = play.play()
        _report(play, ending)
        scenario.save(ending, play.readers, place / "result.json")
        if json:
            print((place / "result.json").read_text())
        if not leave:
            out.print(scenario.connect_text(stage), soft_wrap=True, markup=False)
            signal.sigwait({signal.SIGINT, signal.SIGTERM})
    except StageError as error:
        fail(str(error))
    finally:
        stage.stop()
    if ending.clean and folder is None:
        shutil.rmtree(place)
    if not ending.clean:
        raise typer.Exit(1)


def _report(play: Scenario, ending: Ending) -> None:
    """The sentence that counts, on stderr when stdout is for JSON."""
    report, notices, out = ending.report, play.readers.notices, errors
    if report.doubt_present:
        out.print(tell("doubt", count=report.doubt_present))
    out.print(tell("readers", looks=notices.looks, turned_away=notices.turned_away, broken=notices.broken,
                   slowest=notices.slowest), soft_wrap=True)
    if ending.left:
        out.print(tell("undrained", count=ending.left))
    if not report.ok:
        out.print(report.table(), markup=False)
    lost, doubled = len(report.of("lost")), len(report.of("doubled"))
    found = report.found - report.doubt_present
    out.print(tell("result", acknowledged=report.acknowledged, found=found, lost=lost, doubled=doubled), style="bold")
    out.print(tell("clean" if ending.clean else "not_clean"), style="green" if ending.clean else "red")
