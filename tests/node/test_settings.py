"""Settings of a node: files, arguments, and what is told about a wrong one."""

from __future__ import annotations

from pathlib import Path

import pytest

from onedomain.node.settings import BadSettings, endpoint, load


def test_arguments_stand_above_the_file(tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    path.write_text('data = "/x"\nname = "n1"\nproxy_password = "sesame"\n')
    settings = load(path, name="n2", imap=None)
    assert (settings.data, settings.name, settings.secret()) == (Path("/x"), "n2", "sesame")
    assert "sesame" not in repr(settings)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "data"), ('data = "/x"\nnope = 1', "nope"), ('data = "/x"\nimap = ["nonsense"]', "imap.0"),
        ('data = "/x"\nkey = "k"', "certificate and key go together"),
        ('data = "/x"\nimaps = ["127.0.0.1:1"]', "imaps needs a certificate"), ("=", "node.toml"),
        ('data = "/x"\ntrusted = ["nonsense"]', "trusted.0"), ('data = "/x"\nidle_timeout = 1', "idle_timeout"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_place(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "node.toml"
    path.write_text(text)
    with pytest.raises(BadSettings, match=r"node\.toml") as error:
        load(path)
    assert told in str(error.value)


def test_the_secret_from_file_or_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret").write_text("from file\n")
    monkeypatch.setenv("ONEDOMAIN_NODE_PROXY_PASSWORD", "from environment")
    assert load(None, data="/x").secret() == "from environment"
    assert load(None, data="/x", proxy_password_file=tmp_path / "secret").secret() == "from file"


@pytest.mark.parametrize(("text", "found"), [("127.0.0.1:0", ("127.0.0.1", 0)), ("[::1]:143", ("::1", 143))])
def test_endpoints(text: str, found: tuple[str, int]) -> None:
    assert endpoint(text) == found
