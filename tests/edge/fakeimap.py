"""A home's IMAP, small and exact: one folder in memory, what it was told, and faults on demand."""

from __future__ import annotations

import asyncio
import re


class FakeImap:
    def __init__(self, bodies: dict[int, bytes], *, uidvalidity: int = 77) -> None:
        self.bodies = dict(bodies)
        self.flags: dict[int, set[str]] = {uid: set() for uid in bodies}
        self.uidvalidity = uidvalidity
        self.said: list[str] = []
        self.break_at = ""      # a command during which the connection is dropped
        self.refuse = ""        # a command that is answered NO
        self.pause: asyncio.Event | None = None  # waited for before `pause_at` is carried out
        self.pause_at = "UID STORE"
        self.half_body = False  # drop the connection in the middle of a body

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            tag, _, command = line.decode().rstrip("\r\n").partition(" ")
            self.said.append(command)
            if self.break_at and command.startswith(self.break_at):
                return
            if self.pause is not None and command.startswith(self.pause_at):
                await self.pause.wait()
            if self.refuse and command.startswith(self.refuse):
                writer.write(f"{tag} NO [SERVERBUG] no\r\n".encode())
                continue
            if not self.bodies and command.startswith("UID FETCH 1:*"):
                writer.write(f"{tag} BAD no message has such a number\r\n".encode())  # some servers' view of it
                continue
            if not await self._answer(command, writer):
                return
            writer.write(f"{tag} OK done\r\n".encode())
            await writer.drain()
            if command == "LOGOUT":
                return

    async def _answer(self, command: str, writer: asyncio.StreamWriter) -> bool:
        if command == "SELECT INBOX":
            writer.write(b"* %d EXISTS\r\n* OK [UIDVALIDITY %d] ok {3}\r\n" % (len(self.bodies), self.uidvalidity))
        elif command == "UID FETCH 1:* (UID RFC822.SIZE FLAGS)":
            for number, uid in enumerate(sorted(self.bodies), 1):
                flags = " ".join(sorted(self.flags[uid]))
                size = len(self.bodies[uid])
                writer.write(f"* {number} FETCH (RFC822.SIZE {size} UID {uid} FLAGS ({flags}))\r\n".encode())
            writer.write(b"* 1 FETCH (FLAGS ())\r\n")
        elif found := re.fullmatch(r"UID FETCH (\d+) BODY\.PEEK\[\](?:<(\d+)\.(\d+)>)?", command):
            uid = int(found[1])
            if uid in self.bodies:
                return await self._body(uid, found, writer)
        elif found := re.fullmatch(r"UID STORE (\S+) \+FLAGS\.SILENT \((\S+)\)", command):
            for uid in self._uids(found[1]):
                self.flags[uid].add(found[2])
        elif found := re.fullmatch(r"UID EXPUNGE (\S+)", command):
            self._expunge(self._uids(found[1]))
        elif command == "EXPUNGE":
            self._expunge(list(self.bodies))
        elif command == "UID SEARCH DELETED":
            marked = [uid for uid, flags in self.flags.items() if "\\Deleted" in flags]
            writer.write(f"* SEARCH {' '.join(map(str, marked))}\r\n".encode())
        return True

    async def _body(self, uid: int, found: re.Match[str], writer: asyncio.StreamWriter) -> bool:
        body, name = self.bodies[uid], "BODY[]"
        if found[2]:
            start, length = int(found[2]), int(found[3])
            body, name = body[start:start + length], f"BODY[]<{start}>"
        writer.write(f"* 1 FETCH (UID {uid} {name} {{{len(body)}}}\r\n".encode())
        if self.half_body:
            writer.write(body[:len(body) // 2])
            return False
        writer.write(body)
        await writer.drain()
        writer.write(b")\r\n")
        return True

    def _uids(self, text: str) -> list[int]:
        uids: list[int] = []
        for part in text.split(","):
            first, _, last = part.partition(":")
            uids += range(int(first), int(last or first) + 1)
        return [uid for uid in uids if uid in self.bodies]

    def _expunge(self, uids: list[int]) -> None:
        for uid in uids:
            if "\\Deleted" in self.flags[uid]:
                del self.bodies[uid], self.flags[uid]
