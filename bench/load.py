"""The load as a process of its own: work comes in on standard input, is done when told, and is reported as JSON.

    python -m bench.load <<< '{"host": …}'     says "ready", waits for a line, works, says what it did, waits, ends

Knows how work is written down. Does not know what it is for.
"""

from __future__ import annotations

import base64
import dataclasses
import gc
import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench.talk import Done, LoadError, Step, Talk, Work

ROOT = Path(__file__).resolve().parents[1]


class Load:
    """One piece of work in a process: `ready()`, `go()`, and, where sessions are held, `end()`."""

    def __init__(self, work: Work) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.load"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
        )
        self._say(_written(work))
        self._heard("ready")

    def go(self) -> Done:
        self._say("go")
        return Done(**self._heard("done"))

    def end(self) -> None:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()

    def kill(self) -> None:
        self._process.kill()
        self.end()

    def _say(self, line: str) -> None:
        assert self._process.stdin
        try:
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise LoadError("the load has ended") from None

    def _heard(self, what: str) -> dict[str, Any]:
        assert self._process.stdout
        answer = json.loads(self._process.stdout.readline() or b'{"error": "the load has ended"}')
        if "error" in answer:
            self.kill()
            raise LoadError(answer["error"])
        return dict(answer[what])


def _written(work: Work) -> str:
    fields = dataclasses.asdict(work)
    for step in fields["steps"]:
        step["send"], step["want"] = (base64.b64encode(step[key]).decode() for key in ("send", "want"))
    return json.dumps(fields)


def _read(line: str) -> Work:
    fields = json.loads(line)
    steps = [
        Step(**{**step, "send": base64.b64decode(step["send"]), "want": base64.b64decode(step["want"])})
        for step in fields.pop("steps")
    ]
    return Work(steps=steps, **{**fields, "repeat": tuple(fields["repeat"])})


def main() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        talk = Talk(_read(sys.stdin.readline()))
        talk.warm()
        gc.collect()
        gc.freeze()
        _answer("ready", {})
        if not sys.stdin.readline():
            return
        _answer("done", dataclasses.asdict(talk.run()))
        sys.stdin.readline()  # sessions that are held stay open until then
        talk.close()
    except (LoadError, OSError) as problem:
        _answer("error", str(problem))


def _answer(what: str, value: Any) -> None:
    print(json.dumps({what: value}), flush=True)


if __name__ == "__main__":
    main()
