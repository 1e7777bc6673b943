"""From a file to a Config, or to every problem in it.

Knows reading, validating, and turning pydantic's findings into problems with a line and advice. Does not know the
tables (schema) nor what must hold between them (checks).
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from onedomain.config import checks
from onedomain.config.fields import Surroundings
from onedomain.config.places import line_of, lines
from onedomain.config.problem import ConfigErrors, Place, Problem
from onedomain.config.schema import File
from onedomain.config.texts import TEXTS, advice, say
from onedomain.config.values import Config

Model = TypeVar("Model", bound=BaseModel)

EXAMPLES = {
    "edge": '[edge] name = "mx1.example.com"',
    "domain": '[[domain]] name = "example.com"',
    "server": '[[server]] name = "head"',
    "unit": '[[unit]] name = "head"',
    "listener": '[[listener]] protocol = "smtp"',
    "state": 'state = "/var/lib/onedomain"',
    "postmaster": 'postmaster = "someone@example.com"',
    "kind": 'kind = "dovecot"',
    "host": 'host = "192.0.2.1"',
    "port": "port = 8080",
    "imap": 'imap = { host = "192.0.2.1" }',
    "delivery": 'delivery = { host = "192.0.2.1" }',
    "protocol": 'protocol = "imap"',
    "certificate": 'certificate = "/etc/onedomain/mail.crt"',
    "key": 'key = "/etc/onedomain/mail.key"',
}


def load(path: Path | str, environment: Mapping[str, str] = os.environ) -> Config:
    """The configuration in a file. Raises ConfigErrors with everything that is wrong with it."""
    path = Path(path)
    file, text, raw = read(path, File, environment)
    known = lines(text)
    if found := checks.problems(file):
        raise ConfigErrors(path, _placed(found, known))
    unwise = [*checks.warnings(file), *_inline_passwords(raw, ())]
    return Config(path, file, tuple(_placed(unwise, known)))


def read(
    path: Path, model: type[Model], environment: Mapping[str, str] = os.environ
) -> tuple[Model, str, dict[str, Any]]:
    """Any TOML file as a model, with its text and its raw tables. Raises ConfigErrors."""
    try:
        text = path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
        raw = tomllib.loads(text)
    except OSError as error:
        raise _unreadable(path, "no_file", why=error.strerror or error) from None
    except UnicodeDecodeError as error:
        raise _unreadable(path, "not_utf8", offset=error.start) from None
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"at line (\d+)", str(error))
        line = int(found[1]) if found else text.count("\n") + 1
        raise ConfigErrors(path, [Problem((), say("syntax", why=error), advice("syntax"), line)]) from None
    context = Surroundings(path.absolute().parent, environment)
    try:
        return model.model_validate(raw, context=context), text, raw
    except ValidationError as error:
        known = lines(text)
        found_ = [_problem(dict(item), model) for item in error.errors(include_url=False, include_input=False)]
        raise ConfigErrors(path, _placed(found_, known)) from None


def _unreadable(path: Path, key: str, **fields: object) -> ConfigErrors:
    return ConfigErrors(path, [Problem((), say(key, **fields), advice(key, **fields))])


def _placed(problems: list[Problem], known: dict[Place, int]) -> list[Problem]:
    placed = [replace(problem, line=line_of(problem.place, known)) for problem in problems]
    return sorted(placed, key=lambda problem: problem.line)


def _problem(item: dict[str, Any], model: type[BaseModel]) -> Problem:
    kind, place, fields = item["type"], item["loc"], item.get("ctx", {})
    if kind == "extra_forbidden":
        names = _keys(model, place[:-1])
        nearest = difflib.get_close_matches(str(place[-1]), names, 1)
        hint = (
            say("extra_forbidden?", nearest=nearest[0]) if nearest else say("extra_known?", names=", ".join(names))
        )
        return Problem(place, say(kind), hint)
    if kind == "missing":
        example = EXAMPLES.get(str(place[-1]), f"{place[-1]} = …")
        return Problem(place, say(kind), say("missing?", example=example))
    if kind not in TEXTS:
        return Problem(place, item["msg"])
    if kind == "literal_error":
        fields = {"expected": str(fields["expected"]).replace(" or ", say("or"))}
    return Problem(place, say(kind, **fields), advice(kind, **fields))


def _keys(model: type[BaseModel], place: Place) -> list[str]:
    """The keys that the table at `place` knows."""
    for step in place:
        if isinstance(step, int):
            continue
        field = next((f for name, f in model.model_fields.items() if step in (name, f.alias)), None)
        inner = next(_models(field.annotation), None) if field is not None else None
        if inner is None:
            return []
        model = inner
    return [field.alias or name for name, field in model.model_fields.items()]


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)


def _inline_passwords(value: Any, place: Place) -> Iterator[Problem]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in ("password", "api_key") and inner:
                yield Problem((*place, key), say("inline_password"), advice("inline_password", key=key))
            yield from _inline_passwords(inner, (*place, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _inline_passwords(inner, (*place, index))
