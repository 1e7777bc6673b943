"""What every verb's output goes through."""

from __future__ import annotations

import os
import subprocess
import sys

SAYS = r"""
from onedomain.cli import main
from onedomain.cli.common import console, print_json
main.app = lambda: (print_json({"folder": "B\udce4ume"}), console.print("B\udce4ume: Bäume"))
main.main()
"""


def test_a_name_that_is_no_text_can_be_shown() -> None:
    """Old servers have such folders. In most languages' locales Python refuses to write them."""
    strict = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    done = subprocess.run([sys.executable, "-c", SAYS], env=strict, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode().splitlines() == ["{", r'  "folder": "B\udce4ume"', "}", r"B\udce4ume: Bäume"]
