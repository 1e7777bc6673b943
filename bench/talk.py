"""The load: many sessions with a server at once, each a list of lines to say and answers to wait for.

Knows sockets, TLS as a client, and how lines of IMAP, POP3 and SMTP end an answer. Does not know what is measured. One
thread, one epoll, no event loop between: whatever the load costs is not there for the server.
"""

from __future__ import annotations

import base64
import select
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

READ = 262_144
TAIL = 512
"""Octets of an answer that are kept: the last line of any answer is shorter."""
STALLED = 30.0
"""Seconds without any answer at all, after which the run is given up."""

IN, OUT = select.EPOLLIN, select.EPOLLOUT
WAITS = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class LoadError(Exception):
    """A server said something else than expected, or nothing."""


@dataclass(frozen=True, slots=True)
class Step:
    """`want` is how the last line of the answer begins. `begins` and `ends` are the ends of what is timed."""

    send: bytes
    want: bytes
    begins: bool = False
    ends: bool = False


@dataclass(frozen=True, slots=True)
class Work:
    """`sessions` in all, `at_once` of them side by side; with `seconds` they arrive evenly over that time instead.

    Each goes through `steps`; the steps from `repeat[0]` to before `repeat[1]` are gone through `times` times. `%u` in
    `send` stands for a user's name, of whom there are `users`, `%p` for the same with `password` as SASL's PLAIN.
    `hold`: a session stays open after its last step.
    """

    host: str
    port: int
    steps: Sequence[Step]
    sessions: int
    at_once: int = 1
    seconds: float = 0.0
    repeat: tuple[int, int] = (0, 0)
    times: int = 1
    users: Sequence[str] = ("u",)
    password: str = "secret-of-all"
    tls: str = ""  # "", "full" or "resumed"
    hold: bool = False
    sources: Sequence[str] = ()


@dataclass(slots=True)
class Done:
    """`latencies` in seconds, one for each timed stretch."""

    seconds: float = 0.0
    cpu: float = 0.0
    sessions: int = 0
    resumed: int = 0
    octets: int = 0
    latencies: list[float] = field(default_factory=list)


def client_context() -> ssl.SSLContext:
    """Nothing is verified: the load is to be cheap, and the certificate is the same for all."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


class Session:
    __slots__ = ("began", "out", "place", "rounds", "shaking", "sock", "tail", "user", "waiting", "want")

    def __init__(self, sock: socket.socket, user: bytes) -> None:
        self.sock = sock
        self.user = user
        self.place = -1
        self.rounds = 0
        self.tail = b""
        self.out = memoryview(b"")
        self.want = b""
        self.began = 0.0
        self.waiting = False
        self.shaking = isinstance(sock, ssl.SSLSocket)


class Talk:
    """One piece of work, carried out once."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.done = Done()
        self._poll = select.epoll()
        self._open: dict[int, Session] = {}
        self._heard = memoryview(bytearray(READ))
        self._started = 0
        self._warming = False
        self._context = client_context() if work.tls else None
        self._ticket: ssl.SSLSession | None = None
        self._users = [user.encode() for user in work.users]
        self._steps = list(work.steps)
        self._plain = {
            user: base64.b64encode(b"\0" + user + b"\0" + work.password.encode()) for user in self._users
        }
        self._personal = [b"%u" in step.send[:1000] or b"%p" in step.send[:1000] for step in self._steps]

    def warm(self) -> None:
        """One session whose ticket the others resume, where they do."""
        if self.work.tls == "resumed":
            self._warming = True
            self._begin()
            if not self.done.sessions:  # on a busy machine all may have been answered by now
                self._drive(lambda: bool(self.done.sessions))
            self._warming = False
            self.close_all()
            self.done = Done()
            self._started = 0

    def run(self) -> Done:
        began, cpu = time.perf_counter(), time.process_time()
        if self.work.seconds:
            self._arrivals()
        else:
            while self._started < min(self.work.at_once, self.work.sessions):
                self._begin()
        total = self.work.sessions
        self._drive(lambda: self.done.sessions >= total)
        self.done.seconds, self.done.cpu = time.perf_counter() - began, time.process_time() - cpu
        return self.done

    def close_all(self) -> None:
        for session in list(self._open.values()):
            self._drop(session)

    def close(self) -> None:
        self.close_all()
        self._poll.close()

    def _arrivals(self) -> None:
        """Sessions begin when their time has come, however many are open."""
        began, gap = time.perf_counter(), self.work.seconds / self.work.sessions
        while self._started < self.work.sessions:
            due = began + self._started * gap - time.perf_counter()
            if due <= 0:
                self._begin()
            else:
                self._drive(lambda: True, wait=due)

    def _drive(self, ended: Callable[[], bool], wait: float | None = None) -> None:
        """Until `ended`. With `wait` silence is no fault for so many seconds."""
        while True:
            ready = self._poll.poll(STALLED if wait is None else wait)
            if not ready and wait is None:
                stuck = next(iter(self._open.values()))
                raise LoadError(f"no answer in {STALLED:g} s; last heard: {stuck.tail!r}, wanted {stuck.want!r}")
            for number, mask in ready:
                session = self._open.get(number)
                if session is not None:
                    if mask & OUT:
                        self._flush(session)
                    if mask & ~OUT:
                        self._hear(session)
            if ended():
                return

    def _begin(self) -> None:
        work, number = self.work, self._started
        self._started += 1
        began = time.perf_counter()
        sock = socket.socket()
        if work.sources:
            sock.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT: the port is chosen at connect
            sock.bind((work.sources[number % len(work.sources)], 0))
        sock.settimeout(STALLED)
        sock.connect((work.host, work.port))
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._context is not None:
            sock = self._context.wrap_socket(
                sock, server_hostname="mail.example.com", do_handshake_on_connect=False, session=self._ticket
            )
        session = Session(sock, self._users[number % len(self._users)])
        session.began = began
        self._open[sock.fileno()] = session
        self._poll.register(sock.fileno(), IN)
        self._next(session)
        if session.shaking:
            self._shake(session)

    def _shake(self, session: Session) -> None:
        try:
            session.sock.do_handshake()  # type: ignore[attr-defined]
        except WAITS:
            return
        session.shaking = False
        self.done.resumed += session.sock.session_reused  # type: ignore[attr-defined]
        self._hear(session)

    def _hear(self, session: Session) -> None:
        if session.shaking:
            self._shake(session)
            return
        sock = session.sock
        while True:
            try:
                size = sock.recv_into(self._heard)  # recv would make room for READ octets each time
            except WAITS:
                return
            except ConnectionError as error:
                size = 0
                session.tail += repr(error).encode()
            if not size:
                self._lost(session)
                return
            self.done.octets += size
            data = bytes(self._heard[max(0, size - TAIL) : size])
            tail = session.tail = (session.tail + data)[-TAIL:] if session.tail else data
            if tail.endswith(b"\n"):
                last = tail[tail.rfind(b"\n", 0, -1) + 1 :]
                if last.startswith(session.want):
                    self._answered(session)
                    if sock.fileno() < 0:
                        return
                elif _refused(last):
                    raise LoadError(f"wanted {session.want!r}, got {last!r}")
            if self._context is None:
                return

    def _answered(self, session: Session) -> None:
        step = self._steps[session.place]
        if step.ends:
            self.done.latencies.append(time.perf_counter() - session.began)
        session.tail = b""
        self._next(session)

    def _next(self, session: Session) -> None:
        place = session.place + 1
        first, last = self.work.repeat
        if place == last and last:
            session.rounds += 1
            if session.rounds < self.work.times:
                place = first
        session.place = place
        if place == len(self._steps):
            self._finish(session)
            return
        step = self._steps[place]
        session.want = step.want
        if step.begins:
            session.began = time.perf_counter()
        if step.send:
            data = step.send
            if self._personal[place]:
                data = data.replace(b"%u", session.user).replace(b"%p", self._plain[session.user])
            session.out = memoryview(data)
            self._flush(session)

    def _flush(self, session: Session) -> None:
        out, sock = session.out, session.sock
        waiting = False
        while out:
            try:
                out = out[sock.send(out) :]
            except WAITS:
                waiting = True
                break
            except ConnectionError:
                break  # what the server said last is still to be read
        session.out = out
        if waiting != session.waiting:
            session.waiting = waiting
            self._poll.modify(sock.fileno(), IN | OUT if waiting else IN)

    def _finish(self, session: Session) -> None:
        if self._context is not None and self.work.tls == "resumed" and self._ticket is None:
            self._ticket = session.sock.session  # type: ignore[attr-defined]
        self.done.sessions += 1
        if not self.work.hold:
            self._drop(session)
        if not self.work.seconds and not self._warming and self._started < self.work.sessions:
            self._begin()

    def _lost(self, session: Session) -> None:
        if session.place == len(self._steps):  # held, and all is said
            self._drop(session)
            return
        raise LoadError(f"closed by the server; last heard: {session.tail!r}, wanted {session.want!r}")

    def _drop(self, session: Session) -> None:
        del self._open[session.sock.fileno()]
        session.sock.close()


def _refused(line: bytes) -> bool:
    """No, BAD, -ERR, and SMTP's 4xx and 5xx: no tag of ours begins with a digit."""
    word = line[:16].split(b" ")[1:2]
    return line[:1] in (b"4", b"5") or line.startswith(b"-ERR") or word in ([b"NO"], [b"BAD"])
