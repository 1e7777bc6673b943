"""Dates as RFC 5322 section 3.3 writes them, in UTC and without a locale."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def format_date(seconds: float) -> str:
    """Seconds since 1970 -> `Fri, 21 Nov 1997 09:55:06 +0000`."""
    return _format(int(seconds))


@lru_cache(16)  # a busy edge writes the same second hundreds of times
def _format(seconds: int) -> str:
    at = datetime.fromtimestamp(seconds, UTC)
    return (
        f"{_DAYS[at.weekday()]}, {at.day:02d} {_MONTHS[at.month - 1]} {at.year:04d} "
        f"{at.hour:02d}:{at.minute:02d}:{at.second:02d} +0000")
