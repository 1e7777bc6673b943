"""Where the figures were taken: processor, kernel, disk, and the versions of everybody."""

from __future__ import annotations

import os
import platform
import ssl
import time
from importlib.metadata import version
from pathlib import Path

from bench import peer_dovecot, peer_nginx, peer_postfix


def facts(folder: Path) -> dict[str, str]:
    """Words for the top of the table. `folder` is where spools and queues are."""
    return {
        "processor": f"{os.cpu_count()} x {_processor()}",
        "kernel": platform.release(),
        "disk": f"{_filesystem(folder)}, {_syncs(folder):,.0f} fdatasync/s of 10 KB by one writer, "
                f"a new file in {_creation(folder) * 1e6:.0f} µs",
        "load before": f"{os.getloadavg()[0]:.2f}",
        "python": f"{platform.python_version()}, uvloop {version('uvloop')}, {ssl.OPENSSL_VERSION}",
        "onedomain": version("onedomain"),
        "peers": ", ".join(each() for each in (peer_nginx.version, peer_dovecot.version, peer_postfix.version)),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith(("model name", "Model")):
            return line.partition(":")[2].strip()
    return platform.machine()


def _filesystem(folder: Path) -> str:
    best, kind = "", "?"
    for line in Path("/proc/mounts").read_text().splitlines():
        _, place, name, *_ = line.split()
        if str(folder).startswith(place) and len(place) > len(best):
            best, kind = place, name
    return kind


def _syncs(folder: Path, seconds: float = 0.5) -> float:
    """What the disk gives: everybody's durable figures hang on it."""
    file = os.open(folder / "syncs", os.O_CREAT | os.O_WRONLY)
    data, count, began = bytes(10 << 10), 0, time.perf_counter()
    try:
        while time.perf_counter() - began < seconds:
            os.write(file, data)
            os.fdatasync(file)
            count += 1
    finally:
        os.close(file)
        (folder / "syncs").unlink()
    return count / seconds


def _creation(folder: Path, files: int = 200) -> float:
    """Seconds that a new file takes. Some 20 µs; hundreds where many were removed lately (ext4 passes over each inode
    that was freed in the last minutes): then servers that make a file for each message are slower than they are.
    They stay, for the same reason.
    """
    place = folder / "creation"
    place.mkdir()
    began = time.perf_counter()
    for number in range(files):
        os.close(os.open(place / str(number), os.O_CREAT | os.O_WRONLY))
    return (time.perf_counter() - began) / files
