"""`onedomain init`: a commented configuration to start from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from onedomain.cli.common import DEFAULT, AsJson, console, fail, print_json
from onedomain.cli.texts import say
from onedomain.config import template


def init(path: Annotated[Path, typer.Argument()] = DEFAULT, json: AsJson = False) -> None:
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(template())
    except FileExistsError:
        fail(say("exists", path=path))
    except OSError as error:
        fail(f"{path}: {error.strerror}")
    if json:
        print_json({"written": str(path)})
        return
    console.print(say("written", path=path), markup=False, soft_wrap=True)
