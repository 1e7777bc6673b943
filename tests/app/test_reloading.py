"""What a reload cannot change is said: each table of the file is either taken over while sessions go on, or named."""

# ruff: noqa: E501 (a table reads best with one row to a line)

from __future__ import annotations

from pathlib import Path

import pytest

from onedomain.app.reloading import needs_restart
from onedomain.config import Config, load
from onedomain.config.schema import File
from tests.config.test_load import MINIMAL

LIVE = {"server", "unit"}
OTHER = {
    "edge": ("[edge]", "[edge]\nworkers = 3"), "domain": ('name = "example.com"', 'name = "example.org"'),
    "listener": ('protocol = "smtp"', 'protocol = "smtp"\nport = 2525'), "tls": ("[[unit]]", '[tls]\nminimum = "1.3"\n[[unit]]'),
    "directory": ("[[unit]]", '[directory]\nurl = "sqlite:////d"\n[[unit]]'),
    "smarthost": ("[[unit]]", '[smarthost]\nhost = "h"\n[[unit]]'), "limits": ("[[unit]]", "[limits]\nreceived = 30\n[[unit]]"),
    "retry": ("[[unit]]", '[retry]\nfirst = "7s"\n[[unit]]'), "health": ("[[unit]]", '[health]\ninterval = "2s"\n[[unit]]'),
    "failover": ("[[unit]]", "[failover]\nautomatic = true\n[[unit]]"), "links": ("[[unit]]", "[links]\npasses = 3\n[[unit]]"),
    "alerts": ("[[unit]]", "[alerts]\nmail = false\n[[unit]]"), "metrics": ("[[unit]]", "[metrics]\nport = 1\n[[unit]]"),
    "log": ("[[unit]]", '[log]\nkeep = "2d"\n[[unit]]'), "resolver": ("[[unit]]", '[resolver]\nservers = ["192.0.2.1"]\n[[unit]]'),
}  # fmt: skip


def loaded(folder: Path, *change: str) -> Config:
    path = folder / "onedomain.toml"
    path.write_text(MINIMAL.replace(*change) if change else MINIMAL)  # type: ignore[arg-type]
    return load(path, {})


@pytest.mark.parametrize("name", sorted(set(File.model_fields) - LIVE))
def test_it_is_named(name: str, tmp_path: Path) -> None:
    assert needs_restart(loaded(tmp_path), loaded(tmp_path, *OTHER[name])) == [name]


def test_what_goes_on_with_sessions(tmp_path: Path) -> None:
    assert not needs_restart(loaded(tmp_path), loaded(tmp_path))
    assert not needs_restart(loaded(tmp_path), loaded(tmp_path, "[[listener]]", '[[unit]]\nname = "x"\n[[listener]]'))
    assert not needs_restart(loaded(tmp_path), loaded(tmp_path, "[[unit]]", "weight = 2.0\n[[unit]]"))
