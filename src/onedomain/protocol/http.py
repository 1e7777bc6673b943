"""One HTTP/1.1 question after the other (RFC 9112), for the side that asks: request -> bytes, bytes -> response.

Knows Content-Length, chunks, and when a connection can't be used again. Does not know what is asked, nor of
redirections: an interface on one's own server has none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

MAX_HEAD = 65_536
MAX_BODY = 1024 * 1024

_STATUS = re.compile(rb"HTTP/1\.([01]) (\d{3})(?: [^\r\n]*)?")
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_VALUE = re.compile(r"[\x20-\x7e]*")


class HttpError(ValueError):
    """What came is no HTTP, or breaks a limit; the connection can't be used any more."""


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """`headers` by name in lower case, the last of each. `last`: the server closes the connection after it."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    last: bool = False


def request(method: str, path: str, host: str, headers: Mapping[str, str], body: bytes = b"") -> bytes:
    """Raises ValueError for what could end a line."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", f"Content-Length: {len(body)}"]
    for name, value in headers.items():
        if not _TOKEN.fullmatch(name):
            raise ValueError(f"no header: {name!r}")
        lines.append(f"{name}: {value}")
    if not all(_VALUE.fullmatch(line) for line in lines):
        raise ValueError("control or non-ASCII character in a request")
    return "\r\n".join(lines).encode("ascii") + b"\r\n\r\n" + body


class ResponseReader:
    """`receive(data)` until it gives the response; `end()` at the end of the stream. Both raise HttpError."""

    def __init__(self) -> None:
        self._data = b""
        self._head: tuple[int, dict[str, str], bool] | None = None
        self._body: list[bytes] = []
        self._size = 0
        self._left: int | None = None  # of the body or the chunk; None: a head or a chunk's size comes next
        self._chunked = False
        self._to_end = False

    @property
    def begun(self) -> bool:
        return bool(self._data) or self._head is not None

    def receive(self, data: bytes) -> HttpResponse | None:
        self._data += data
        while self._head is None:
            if not self._take_head():
                return None
        if self._chunked:
            return self._take_chunks()
        if self._to_end:
            self._keep(self._data)
            self._data = b""
            return None
        assert self._left is not None
        if len(self._data) < self._left:
            return None
        self._keep(self._data[: self._left])
        return self._finish()

    def end(self) -> HttpResponse:
        if self._head is None or not self._to_end:
            raise HttpError("the connection ended within a response")
        return self._finish()

    def _take_head(self) -> bool:
        end = self._data.find(b"\r\n\r\n")
        if end < 0 or end > MAX_HEAD:
            if len(self._data) > MAX_HEAD:
                raise HttpError("head longer than the limit")
            return False
        first, *lines = self._data[:end].split(b"\r\n")
        self._data = self._data[end + 4 :]
        found = _STATUS.fullmatch(first)
        if found is None:
            raise HttpError(f"no HTTP: {first[:80]!r}")
        headers: dict[str, str] = {}
        for line in lines:
            name, colon, value = line.partition(b":")
            if not colon:
                raise HttpError(f"no header: {line[:80]!r}")
            headers[name.decode("latin-1").lower()] = value.strip().decode("latin-1")
        status = int(found[2])
        if 100 <= status < 200:
            return False if not self._data else self._take_head()
        last = headers.get("connection", "").lower() == "close" or found[1] == b"0"
        self._chunked = headers.get("transfer-encoding", "").lower() == "chunked"
        length = headers.get("content-length")
        if self._chunked or length is None:
            self._to_end = not self._chunked and status not in (204, 304)
            last = last or self._to_end
            self._left = None if self._chunked else 0
        elif not length.isdecimal() or int(length) > MAX_BODY:
            raise HttpError(f"Content-Length {length[:40]}")
        else:
            self._left = int(length)
        self._head = status, headers, last
        return True

    def _take_chunks(self) -> HttpResponse | None:
        while True:
            if self._left is None:
                line, end, rest = self._data.partition(b"\r\n")
                if not end:
                    if len(self._data) > 1024:
                        raise HttpError("no size of a chunk")
                    return None
                try:
                    self._left = int(line.partition(b";")[0].strip(), 16)
                except ValueError:
                    raise HttpError(f"no size of a chunk: {line[:40]!r}") from None
                if not 0 <= self._left <= MAX_BODY:
                    raise HttpError("chunk larger than the limit")
                self._data = rest
            if self._left == 0:  # trailers end with an empty line
                end_at = self._data.find(b"\r\n")
                while end_at > 0:
                    self._data = self._data[end_at + 2 :]
                    end_at = self._data.find(b"\r\n")
                if end_at < 0 and len(self._data) > MAX_HEAD:
                    raise HttpError("trailers longer than the limit")
                return None if end_at < 0 else self._finish()
            if len(self._data) < self._left + 2:
                return None
            if self._data[self._left : self._left + 2] != b"\r\n":
                raise HttpError("a chunk without its end")
            self._keep(self._data[: self._left])
            self._data = self._data[self._left + 2 :]
            self._left = None

    def _keep(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > MAX_BODY:
            raise HttpError("body longer than the limit")
        self._body.append(data)

    def _finish(self) -> HttpResponse:
        assert self._head is not None
        status, headers, last = self._head
        return HttpResponse(status, headers, b"".join(self._body), last)
