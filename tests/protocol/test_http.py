"""HTTP answers: whole, byte by byte, at random splits, random bytes; and what a request may not say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onedomain.protocol.http import MAX_BODY, HttpError, HttpResponse, ResponseReader, request

OK = {"content-type": "application/json"}
ANSWERS: list[tuple[bytes, int, bytes, bool]] = [
    (b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 5\r\n\r\nhello", 200, b"hello", False),
    (b"HTTP/1.1 200\r\nContent-Type: application/json\r\nconnection:  Close \r\nContent-Length: 0\r\n\r\n", 200, b"",
     True),
    (b"HTTP/1.0 404 Not found\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\nno", 404, b"no", True),
    (b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
     b"5;x=y\r\nhello\r\nA\r\n, world!\r\n\r\n0\r\nTrailer: x\r\n\r\n", 200, b"hello, world!\r\n", False),
    (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1\r\n\r\nx",
     200, b"x", False),
    (b"HTTP/1.1 204 None\r\nContent-Type: application/json\r\n\r\n", 204, b"", False),
]  # fmt: skip


@pytest.mark.parametrize(("data", "status", "body", "last"), ANSWERS)
def test_answers(data: bytes, status: int, body: bytes, last: bool) -> None:
    for pieces in ([data], [data[i : i + 1] for i in range(len(data))]):
        reader = ResponseReader()
        found = [reader.receive(piece) for piece in pieces]
        assert not any(found[:-1])
        response = found[-1]
        assert response is not None
        assert (response.status, response.body) == (status, body)
        assert response.headers["content-type"] == "application/json"
        if status != 204:
            assert response.last == last


def test_an_answer_up_to_the_end_of_the_connection() -> None:
    reader = ResponseReader()
    assert not reader.begun
    assert reader.receive(b"HTTP/1.1 200 OK\r\n\r\nall") is None and reader.begun
    assert reader.receive(b" of it") is None
    assert reader.end() == HttpResponse(200, {}, b"all of it", True)
    cut = ResponseReader()
    cut.receive(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel")
    with pytest.raises(HttpError):
        cut.end()


@pytest.mark.parametrize(
    "data",
    [
        b"SMTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno header\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (MAX_BODY + 1),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFF\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1" * 2000,
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000,
        b"HTTP/1.1 200 OK\r\n\r\n" + b"y" * (MAX_BODY + 1),
    ],
)
def test_what_is_no_answer(data: bytes) -> None:
    with pytest.raises(HttpError):
        ResponseReader().receive(data)


@given(st.binary(max_size=200), st.data())
def test_random_bytes_and_splits(noise: bytes, data: st.DataObject) -> None:
    whole = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n"
    cut = data.draw(st.integers(0, len(whole)))
    reader = ResponseReader()
    first = reader.receive(whole[:cut])
    second = first or reader.receive(whole[cut:])
    assert second is not None and second.body == b"body"
    try:
        ResponseReader().receive(noise)
        ResponseReader().receive(b"HTTP/1.1 200 OK\r\n" + noise)
        ResponseReader().receive(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + noise)
    except HttpError:
        pass


def test_requests() -> None:
    assert request("POST", "/x", "h:80", {"A": "b"}, b"{}") == (
        b"POST /x HTTP/1.1\r\nHost: h:80\r\nContent-Length: 2\r\nA: b\r\n\r\n{}"
    )
    for path, headers in (("/x\r\nEvil: 1", {}), ("/x", {"A": "b\r\nEvil: 1"}), ("/x", {"A b": "c"}), ("/é", {})):
        with pytest.raises(ValueError):
            request("GET", path, "h", headers)
