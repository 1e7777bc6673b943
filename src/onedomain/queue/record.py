"""What the spool writes: messages and chunks of large ones, and the events that befall them. Bytes <-> values.

Message journal, version 1:   M 01 | length u32 | JSON | body         C 01 | id 17 | part of a body
State journal, version 1:     01 | JSON list, its first item the kind of event

JSON keys are short because a million of them are kept. Unknown keys and items behind the known ones are ignored, so
that a reader of version N may meet what a later N wrote. So it is with the epochs of the safety net (net.py), which
stand behind an attempt or outcomes: a program that knows none reads the rest, and keeps no net.

Knows the forms. Does not know files, journals or rules.
"""

from __future__ import annotations

import json
import struct
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from onedomain.model.failure import Failure, Kind
from onedomain.model.message import Envelope, Outcome, State, Target
from onedomain.queue.ids import ID_SIZE
from onedomain.store.segment import Position

MESSAGE = b"M\x01"
CHUNK = b"C\x01"
STATE = b"\x01"

# ASCII only: replies of servers and odd addresses may hold lone surrogates, which escapes carry.
_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True).encode
# What is written for each message is put together by hand: JSONEncoder sets out a new encoder for each call.
_quote = json.encoder.encode_basestring_ascii
_LENGTH = struct.Struct(">I")
_KINDS = {kind.name[0]: kind for kind in Kind}  # A, G, R
_STATES = {"d": State.DONE, "a": State.AGAIN, "f": State.FAILED, "?": State.IN_DOUBT}
_LETTERS = {state: letter for letter, state in _STATES.items()}
LATELY = 4096
_lately: OrderedDict[bytes, Head] = OrderedDict()
CHUNK_HEADER_SIZE = len(CHUNK) + ID_SIZE


class BadRecord(ValueError):
    """The record is whole but not one of ours: of another version, or of a later program."""


@dataclass(frozen=True, slots=True)
class Head:
    """All of a message but its body. `chunks` is empty where the body lies in the record itself.

    A bounce names the message it reports on (`bounce_of`) and what it says of each target (`verdicts`, by index): the
    bounce's own record is what makes those failures final.
    """

    id: str
    received: float
    size: int
    envelope: Envelope
    message_id: str = ""
    chunks: tuple[Position, ...] = ()
    bounce_of: str = ""
    verdicts: tuple[tuple[int, Outcome], ...] = ()


def pack_meta(head: Head) -> bytes:
    envelope = head.envelope
    targets = ",".join([
        f"[{_quote(one.address)},{_quote(one.account)},{_quote(one.original)},{_quote(one.notify)}]"
        for one in envelope.targets])
    rare = {
        "u": int(envelope.smtputf8),
        "ret": envelope.ret,
        "env": envelope.envid,
        "lo": envelope.login,
        "c": head.chunks,
        "b": head.bounce_of,
    }
    more = "".join([f',"{key}":{_encode(value)}' for key, value in rare.items() if value])
    if head.message_id:
        more += f',"m":{_quote(head.message_id)}'
    if envelope.client:
        more += f',"cl":{_quote(envelope.client)}'
    if envelope.eight_bit:
        more += ',"8":1'
    if head.verdicts:
        verdicts = [[index, pack_outcome(outcome)] for index, outcome in head.verdicts]
        more += f',"v":{_encode(verdicts)}'
    text = (f'{{"i":{_quote(head.id)},"t":{head.received!r},"z":{head.size},"s":{_quote(envelope.sender)},'
            f'"r":[{targets}]{more}}}')
    return text.encode("ascii")


def unpack_meta(meta: bytes) -> Head:
    """`read_meta`, remembering the latest: a message is looked at several times in a row, then not for a long while."""
    head = _lately.get(meta)
    if head is None:
        head = read_meta(meta)
        remember(meta, head)
    return head


def remember(meta: bytes, head: Head) -> None:
    """What `meta` says: whoever has just written it need not read it."""
    _lately[meta] = head
    if len(_lately) > LATELY:
        _lately.popitem(last=False)


def read_meta(meta: bytes) -> Head:
    value = json.loads(meta)
    envelope = Envelope(
        sender=value["s"],
        targets=tuple(Target(*one) for one in value["r"]),
        smtputf8=bool(value.get("u")),
        eight_bit=bool(value.get("8")),
        ret=value.get("ret", ""),
        envid=value.get("env", ""),
        client=value.get("cl", ""),
        login=value.get("lo", ""),
    )
    return Head(
        id=value["i"],
        received=value["t"],
        size=value["z"],
        envelope=envelope,
        message_id=value.get("m", ""),
        chunks=tuple(Position(*one) for one in value.get("c", ())),
        bounce_of=value.get("b", ""),
        verdicts=tuple((index, unpack_outcome(outcome)) for index, outcome in value.get("v", ())),
    )


def message_head(meta: bytes) -> bytes:
    """What stands before the body in a message record."""
    return MESSAGE + _LENGTH.pack(len(meta)) + meta


def split_message(payload: bytes) -> tuple[bytes, bytes]:
    """A message record -> meta, body. Raises BadRecord."""
    start = len(MESSAGE) + _LENGTH.size
    if not payload.startswith(MESSAGE) or len(payload) < start:
        raise BadRecord(f"no message record: {payload[:2]!r}")
    (length,) = _LENGTH.unpack_from(payload, len(MESSAGE))
    return payload[start : start + length], payload[start + length :]


def chunk_head(id: str) -> bytes:
    return CHUNK + id.encode()


def pack_attempt(id: str, indexes: Sequence[int], server: str, time: float, epochs: Mapping[int, int]) -> bytes:
    """`epochs`: of the homes that have replicas, by index of target."""
    more = f",{_encode(epochs)}" if epochs else ""
    text = f'["a",{_quote(id)},[{",".join(map(str, indexes))}],{_quote(server)},{round(time, 3)!r}{more}]'
    return STATE + text.encode("ascii")


def pack_outcomes(id: str, outcomes: Mapping[int, Outcome], time: float, epochs: Mapping[int, int]) -> bytes:
    """`epochs` replace those of the attempts; 0: held no longer."""
    each = ",".join([f'"{index}":{_outcome_text(one)}' for index, one in outcomes.items()])
    more = f",{_encode(epochs)}" if epochs else ""
    return STATE + f'["o",{_quote(id)},{{{each}}},{round(time, 3)!r}{more}]'.encode("ascii")


def _outcome_text(outcome: Outcome) -> str:
    """`pack_outcome` as JSON."""
    if outcome.failure is not None:
        return _encode(pack_outcome(outcome))
    return f'["{_LETTERS[outcome.state]}",{_quote(outcome.server)},{_quote(outcome.reply)},null]'


def pack_hold(id: str, held: bool) -> bytes:
    return STATE + _dump(["h", id, held])


def pack_warned(id: str) -> bytes:
    return STATE + _dump(["w", id])


def pack_removed(ids: Sequence[str]) -> bytes:
    """These are over, whatever their targets say: finished before a checkpoint, or deleted by the operator."""
    return STATE + _dump(["x", list(ids)])


def pack_snapshot(id: str, progress: Mapping[int, tuple[State, int, str, Outcome | None]], held: bool,
                  warned: bool) -> bytes:
    """Everything that is known of an entry but its epochs; replaces what was noted before."""
    targets = {
        index: [_LETTERS[state], attempts, server, pack_outcome(outcome) if outcome else None]
        for index, (state, attempts, server, outcome) in progress.items()
    }
    return STATE + _dump(["s", id, targets, held, warned])


def unpack_event(payload: bytes) -> list[Any]:
    """-> the event as a list, its kind first. Raises BadRecord."""
    if not payload.startswith(STATE):
        raise BadRecord(f"no state record: {payload[:1]!r}")
    event = json.loads(payload[len(STATE) :])
    if not isinstance(event, list) or not event:
        raise BadRecord("no event")
    return event


def unpack_state(letter: str) -> State:
    return _STATES[letter]


def pack_outcome(outcome: Outcome) -> list[Any]:
    failure = outcome.failure
    return [
        _LETTERS[outcome.state],
        outcome.server,
        outcome.reply,
        [failure.kind.name[0], failure.code, failure.enhanced, failure.text, failure.reason] if failure else None,
    ]


def unpack_outcome(value: Sequence[Any]) -> Outcome:
    letter, server, reply, failure = value
    return Outcome(
        _STATES[letter], server, reply, Failure(_KINDS[failure[0]], *failure[1:]) if failure else None
    )


def _dump(value: object) -> bytes:
    return _encode(value).encode("ascii")
