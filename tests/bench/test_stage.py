"""What a contender leaves behind when it is ended before the end of the run."""

from __future__ import annotations

from pathlib import Path

from bench.stage import LARGE, Stage, _thin_out


def test_what_is_large_goes_and_many_small_files_stay(tmp_path: Path) -> None:
    """Removed, they would be a load for whoever is next: see there."""
    for name, size in (("queue/small", LARGE - 1), ("queue/large", LARGE), ("log", 0)):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(bytes(size))
    (tmp_path / "link").symlink_to("queue/large")
    _thin_out(tmp_path)
    left = {str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*") if not file.is_dir()}
    assert left == {"queue/small", "log", "link"}


def test_at_the_end_nothing_is_left() -> None:
    stage = Stage.open()
    (stage.new_folder("d") / "small").write_text("x")
    stage.close()
    assert not stage.folder.exists()
