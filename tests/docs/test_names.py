"""README and ARCHITECTURE name only what exists: paths, make targets, commands of ours."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from onedomain.config import load
from tests.cli.test_every_verb import VERBS

ROOT = Path(__file__).parents[2]
DOCUMENTS = ["README.md", "README.ja.md", "ARCHITECTURE.md", "CONTRIBUTING.md"]


def code_spans(name: str) -> list[str]:
    text = (ROOT / name).read_text("utf-8")
    fenced = re.findall(r"```(?:sh|console)\n(.*?)```", text, re.S)
    lines = [line.removeprefix("$ ").strip() for block in fenced for line in block.splitlines()]
    return lines + re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.S))


@pytest.mark.parametrize("document", DOCUMENTS)
def test_paths_exist(document: str) -> None:
    paths = [s for s in code_spans(document) if re.fullmatch(r"(?:src|tests|bench|docs|packaging|\.ci)/[\w./-]*", s)]
    missing = [path for path in paths if not (ROOT / path).exists()]
    assert not missing, f"{document} names what is not there: {missing}"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_modules_exist(document: str) -> None:
    """`edge/login.py` means src/onedomain/edge/login.py."""
    parts = "app|backend|cli|control|decision|directory|edge|health|model|net|node|protocol|queue|store|trace"
    names = [s for s in code_spans(document) if re.fullmatch(rf"(?:{parts})/[\w./-]*", s)]
    missing = [name for name in names if not (ROOT / "src/onedomain" / name).exists()]
    assert not missing, f"{document} names what is not there: {missing}"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_make_targets_exist(document: str) -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([\w-]+):", makefile, re.M))
    named = {s.split()[1] for s in code_spans(document) if re.match(r"make \w", s)}
    assert named <= targets, f"{document} names {named - targets}"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_exist(document: str) -> None:
    commands = set()
    for span in code_spans(document):
        if match := re.match(r"onedomain((?: [a-z]+(?:-[a-z]+)*(?=\s|$))+)", span):
            commands.add(tuple(match.group(1).split()[:2]))
    for words in sorted(commands):
        name = " ".join(words)
        assert any(f"{verb} ".startswith(f"{name} ") for verb in VERBS), f"{document} names `onedomain {name}`"


def blocks(name: str, kind: str) -> list[str]:
    """Fenced ones, without the indentation of the list they stand in, and without comments."""
    found = re.findall(r"^( *)```(\w*)\n(.*?)^ *```$", (ROOT / name).read_text("utf-8"), re.S | re.M)
    texts = [re.sub(rf"^{indent}", "", text, flags=re.M) for indent, this, text in found if this == kind]
    return [re.sub(r" *#.*$", "", text, flags=re.M).strip() for text in texts]


@pytest.mark.parametrize("kind", ["sh", "toml", ""])
def test_both_languages_show_the_same(kind: str) -> None:
    assert blocks("README.md", kind) == blocks("README.ja.md", kind)


@pytest.mark.parametrize("document", ["README.md", "README.ja.md"])
def test_the_configuration_that_is_shown_is_right(document: str, tmp_path: Path) -> None:
    first, second = blocks(document, "toml")
    around = '[edge]\nname = "mx1.example.com"\nstate = "state"\n[[listener]]\nprotocol = "smtp"\n'
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/head-office").write_text("secret\n")
    path = tmp_path / "onedomain.toml"
    path.write_text(around + first)
    assert not load(path).warnings
    branch = '[[server]]\nname = "branch"\nkind = "node"\nimap = { host = "h" }\ndelivery = { host = "h" }\n'
    path.write_text(around + first[: first.index("[[unit]]")] + branch + second)
    config = load(path)
    assert config.units[0].replicas == ("branch",) and config.failover.automatic
