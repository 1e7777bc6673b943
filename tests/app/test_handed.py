"""What the supervisor read, as the others find it: whole, also while the next one is being written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from onedomain.app import handed as module
from onedomain.app.handed import Handed
from onedomain.config import load
from tests.config.test_load import MINIMAL


def test_the_others_get_what_was_read(tmp_path: Path) -> None:
    (tmp_path / "onedomain.toml").write_text(MINIMAL)
    config, handed = load(tmp_path / "onedomain.toml"), Handed()
    assert handed.get().number == 0 and handed.get().config is None
    handed.put("", config, (b"a" * 100_000, b"b"))
    pid = os.fork()
    if pid == 0:
        found = handed.get()
        os._exit(0 if (found.number, found.config, found.certificates) == (1, config, (b"a" * 100_000, b"b")) else 1)
    assert os.waitpid(pid, 0)[1] == 0
    handed.put("line 3: no")
    assert (handed.get().number, handed.get().refused, handed.get().config) == (2, "line 3: no", None)


def test_half_of_one_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TORN_SECONDS", 0.05)
    handed = Handed()
    handed.put("one")
    os.pwrite(handed._handle, b"\0", 60)
    with pytest.raises(TimeoutError):
        handed.get()
    handed.put("two")
    assert handed.get().refused == "two"
