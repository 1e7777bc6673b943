"""What to think of one face of a server, after each thing seen of it.

Knows hysteresis: when failures are enough to give a face up, and when good probes are enough to trust it again. Does
not know how anything was seen, nor what time it is: `now` is an argument, in seconds of any monotonic clock.

The rules, each with its reason:

- Real traffic accuses, a probe convicts. One client's broken session says little, so without a probe that failed too no
  verdict falls; but the two together are enough, and need no second probe.
- A server that refuses is restarting: two refusals are enough, and it is asked again soon. A server that is silent may
  be gone, or just busy: it has to say nothing at all for `silence` seconds while at least two questions are open, so
  that one lost packet or one long pause condemns nobody. An answer to any question, however late, ends the silence.
- Faces are questioned out of step, but a host that hangs hangs with all of them: a face that has left a probe
  unanswered when another one falls silent falls with it, or people would go on waiting there for up to another second.
- Only probes bring a face back, `good` of them in a row, and one more for each further fall remembered: who falls often
  waits longer.
- Slow is by itself no reason to avoid a server: its load already makes it less likely to be chosen.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import exp

from onedomain.model.health import Seen, Sighting, Verdict

NEVER = float("-inf")
MAX_GOOD = 4
"""Good probes asked for at most: a server that came back has to be served within five seconds."""


@dataclass(frozen=True, slots=True)
class Patience:
    """`refusals` in a row and `silence` in seconds end a face; `good` probes in a row bring it back.

    `memory`: seconds for which a fall is remembered. `slow_seconds`: an average response above it is slow, as is one
    above `slow_ratio` times the usual and `slow_floor` seconds. `recent`, `usual`: time constants of the two averages.
    """

    refusals: int = 2
    silence: float = 2.5
    good: int = 2
    memory: float = 60.0
    slow_seconds: float = 1.0
    slow_floor: float = 0.25
    slow_ratio: float = 5.0
    slow_leave: float = 0.7
    recent: float = 3.0
    usual: float = 300.0


@dataclass(frozen=True, slots=True)
class Health:
    """What is known of one face. `since`: when the verdict was reached. `reason`: words for the log and `status`.

    `seconds` and `usual` are the recent and the long average of response times; `heard` is when anything last answered.
    """

    verdict: Verdict = Verdict.UP
    since: float = NEVER
    reason: str = ""
    seconds: float = 0.0
    usual: float = 0.0
    measured: float = NEVER
    heard: float = NEVER
    silent_from: float = NEVER
    refusals: int = 0
    silences: int = 0
    probe_failed: bool = False
    good: int = 0
    falls: tuple[float, ...] = ()

    @property
    def doubtful(self) -> bool:
        """One more answer may decide: ask again soon. Who has fallen repeatedly is not hurried back."""
        if self.verdict.usable:
            return bool(self.refusals)
        return bool(self.good) and len(self.falls) < 2


def after(health: Health, sighting: Sighting, now: float, patience: Patience, *, probe: bool) -> Health:
    """The health of a face after one sighting, made by a probe or else by real traffic, that ended at `now`."""
    if sighting.seen is Seen.OK:
        return _answered(health, sighting, now, patience, probe)
    failed = replace(health, good=0, probe_failed=health.probe_failed or probe)
    if sighting.seen is Seen.SILENT:
        return _unanswered(failed, sighting, now, patience)
    failed = replace(failed, refusals=failed.refusals + 1, silences=0, heard=now, silent_from=NEVER)
    if failed.refusals >= patience.refusals and failed.probe_failed:
        return _fall(failed, Verdict.REFUSING, sighting.reason, now, patience)
    return failed


def fell_together(health: Health, other: Health, now: float, patience: Patience) -> Health:
    """The health of a face beside another one of the same server, which may just have fallen silent.

    Only just: one that has been silent for an hour is a fault of its own, and takes nobody with it.
    """
    fresh = other.verdict is Verdict.SILENT and now - other.since <= patience.silence
    if fresh and health.verdict.usable and health.silences and health.probe_failed:
        return _fall(health, Verdict.SILENT, other.reason, now, patience)
    return health


def overall(verdicts: Iterable[Verdict], draining: bool) -> Verdict:
    """The verdict on a server as a whole: its worst face. A server being drained says so as long as it works."""
    worst = max(verdicts, key=_GRAVITY.index, default=Verdict.UP)
    return Verdict.DRAINING if draining and worst.usable else worst


_GRAVITY = (Verdict.UP, Verdict.SLOW, Verdict.DRAINING, Verdict.REFUSING, Verdict.SILENT)


def _answered(health: Health, sighting: Sighting, now: float, patience: Patience, probe: bool) -> Health:
    health = replace(
        _measured(health, sighting.seconds, now, patience),
        refusals=0,
        silences=0,
        silent_from=NEVER,
        probe_failed=False,
        heard=now,
    )
    if not health.verdict.usable:
        if not probe:
            return health
        falls = _remembered(health.falls, now, patience)
        if health.good + 1 < min(patience.good + max(len(falls) - 1, 0), MAX_GOOD):
            return replace(health, good=health.good + 1, falls=falls)
        health = replace(health, good=0, falls=falls)
    verdict = _pace(health, patience)
    if verdict is health.verdict:
        return health
    reason = f"answers in {health.seconds:.3f} s" if verdict is Verdict.SLOW else ""
    return replace(health, verdict=verdict, since=now, reason=reason)


def _unanswered(health: Health, sighting: Sighting, now: float, patience: Patience) -> Health:
    asked = now - sighting.seconds
    silent_from = max(health.heard, min(asked, health.silent_from) if health.silences else asked)
    health = replace(
        _measured(health, sighting.seconds, now, patience),
        silences=health.silences + 1,
        silent_from=silent_from,
        refusals=0,
    )
    if health.silences >= 2 and now - silent_from >= patience.silence and health.probe_failed:
        return _fall(health, Verdict.SILENT, sighting.reason, now, patience)
    return health


def _fall(health: Health, verdict: Verdict, reason: str, now: float, patience: Patience) -> Health:
    if health.verdict is verdict:
        return health
    falls = _remembered(health.falls, now, patience)
    if health.verdict.usable:
        falls = (*falls, now)[-MAX_GOOD:]
    return replace(health, verdict=verdict, since=now, reason=reason, falls=falls)


def _remembered(falls: tuple[float, ...], now: float, patience: Patience) -> tuple[float, ...]:
    return tuple(fall for fall in falls if now - fall < patience.memory)


def _measured(health: Health, seconds: float, now: float, patience: Patience) -> Health:
    """Both averages with one more sample, weighted by the time since the last one.

    A slower answer counts for at least a fifth: a server that begins to crawl is left before it has piled up work.
    """
    if health.measured == NEVER:
        return replace(health, seconds=seconds, usual=seconds, measured=now)
    gap = max(now - health.measured, 0.0)
    share = 1 - exp(-gap / patience.recent)
    if seconds > health.seconds:
        share = max(share, 0.2)
    long_share = 1 - exp(-gap / patience.usual)
    return replace(
        health,
        seconds=health.seconds + share * (seconds - health.seconds),
        usual=health.usual + long_share * (seconds - health.usual),
        measured=now,
    )


def _pace(health: Health, patience: Patience) -> Verdict:
    limit = min(patience.slow_seconds, max(patience.slow_floor, patience.slow_ratio * health.usual))
    if health.verdict is Verdict.SLOW:
        limit *= patience.slow_leave
    return Verdict.SLOW if health.seconds > limit else Verdict.UP
