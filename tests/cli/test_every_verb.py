"""Every verb: its help in both languages, and an answer for programs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import click
import pytest
import typer

from onedomain.cli.main import app

SERVES = {"run", "node run"}
"""Until they are told to end; what they say is the log, in JSON lines."""


def verbs() -> Iterator[tuple[str, Any]]:
    def walk(command: Any, words: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
        if not hasattr(command, "list_commands"):
            yield " ".join(words), command
            return
        context = click.Context(command)
        for name in command.list_commands(context):
            yield from walk(command.get_command(context, name), (*words, name))

    yield from walk(typer.main.get_group(app), ())


VERBS = dict(verbs())


def test_there_are_some() -> None:
    assert len(VERBS) > 40


@pytest.mark.parametrize("verb", sorted(set(VERBS) - SERVES))
def test_it_answers_programs(verb: str) -> None:
    options = {word for parameter in VERBS[verb].params for word in parameter.opts}
    assert "--json" in options


PROGRAM = """
import json
from tests.cli.test_every_verb import VERBS
def options(command):
    return [p.help for p in command.params if p.param_type_name == "option" and p.name != "help"]
print(json.dumps({verb: [command.help, *options(command)] for verb, command in VERBS.items()}))
"""


def helps(language: str) -> dict[str, list[str | None]]:
    """Texts are chosen when the modules are read."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=True,
                          env={**os.environ, "ONEDOMAIN_LANG": language})
    found: dict[str, list[str | None]] = json.loads(done.stdout)
    return found


def test_every_help_is_in_both_languages() -> None:
    japanese = re.compile("[\u3041-\u30ff\u4e00-\u9fff]")
    english = helps("en")
    for verb, texts in helps("ja").items():
        assert len(texts) == len(english[verb])
        for text, other in zip(texts, english[verb], strict=True):
            assert text and japanese.search(text), (verb, text)
            assert other and not japanese.search(other), (verb, other)
