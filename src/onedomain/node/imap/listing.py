"""LIST and LSUB (RFC 3501 section 6.3.8, RFC 5258, RFC 6154, RFC 5819).

Knows names, patterns and attributes. Does not know how folders are kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from onedomain.node.imap.folders import status_line
from onedomain.node.imap.talk import Done, Talk
from onedomain.node.store import folders
from onedomain.node.store.readers import Reading
from onedomain.node.store.values import Folder
from onedomain.protocol.imap import command as c
from onedomain.protocol.imap import render


async def list_(talk: Talk, arguments: c.List) -> Done:
    if arguments.patterns == ("",) and not arguments.extended:
        talk.say(b'* LIST (\\Noselect) "/" ""\r\n')  # asks for the separator
        return Done("List completed")
    owner = talk.owner.id
    if "HIGHESTMODSEQ" in arguments.status:
        talk.enable_condstore()

    def read(reading: Reading) -> list[bytes]:
        names = _Names(folders.of_account(reading.db, owner), folders.subscriptions(reading.db, owner))
        return list(_lines(reading, names, arguments))

    await talk.say_all(await talk.store.read(read))
    return Done("List completed")


async def lsub(talk: Talk, arguments: c.Lsub) -> Done:
    owner = talk.owner.id
    names = await talk.store.read(lambda reading: folders.subscriptions(reading.db, owner))
    wanted = _pattern(arguments.reference, arguments.pattern)
    found = {name: b"" for name in names if wanted.fullmatch(name)}
    if arguments.pattern.endswith("%"):
        # RFC 3501 section 6.3.9: what `%` can't reach is told by its parent
        for parent in _parents(names):
            if wanted.fullmatch(parent):
                found.setdefault(parent, b"\\Noselect")
    await talk.say_all(
        b'* LSUB (%b) "/" %b\r\n' % (attributes, render.mailbox(name)) for name, attributes in sorted(found.items())
    )
    return Done("Lsub completed")


class _Names:
    def __init__(self, all_folders: Iterable[Folder], subscribed: Iterable[str]) -> None:
        self.folders = {folder.name: folder for folder in all_folders}
        self.subscribed = set(subscribed)
        self.parents = _parents(self.folders)
        self.subscribed_parents = _parents(self.subscribed)


def _lines(reading: Reading, names: _Names, arguments: c.List) -> Iterable[bytes]:
    patterns = [_pattern(arguments.reference, pattern) for pattern in arguments.patterns]

    def wanted(name: str) -> bool:
        return any(pattern.fullmatch(name) for pattern in patterns)

    only_subscribed = "SUBSCRIBED" in arguments.select
    recursive = "RECURSIVEMATCH" in arguments.select
    candidates = set(names.folders) | names.parents
    if only_subscribed:
        candidates = names.subscribed
    if recursive:  # RFC 5258 section 3.5: a parent speaks for the children that are not listed themselves
        candidates = candidates | _parents(name for name in names.subscribed if not wanted(name))
    for name in sorted(filter(wanted, candidates), key=lambda name: (name != "INBOX", name)):
        folder = names.folders.get(name)
        if "SPECIAL-USE" in arguments.select and (folder is None or not folder.special_use):
            continue
        yield _line(name, folder, names, arguments, recursive and name in names.subscribed_parents)
        if arguments.status and folder is not None:
            yield status_line(reading, folder, arguments.status)


def _line(name: str, folder: Folder | None, names: _Names, arguments: c.List, child_subscribed: bool) -> bytes:
    attributes: list[str] = []
    if folder is None:
        attributes.append(r"\NonExistent \Noselect" if arguments.extended else r"\Noselect")
    attributes.append(r"\HasChildren" if name in names.parents else r"\HasNoChildren")
    if {"SUBSCRIBED"} & (arguments.select | arguments.give) and name in names.subscribed:
        attributes.append(r"\Subscribed")
    if folder is not None and folder.special_use:
        attributes.append(folder.special_use)
    line = b'* LIST (%b) "/" %b' % (" ".join(attributes).encode(), render.mailbox(name))
    if child_subscribed:
        line += b' ("CHILDINFO" ("SUBSCRIBED"))'
    return line + b"\r\n"


def _pattern(reference: str, pattern: str) -> re.Pattern[str]:
    """`*` is anything, `%` anything within a level; INBOX matches in any case."""
    whole = reference + pattern
    wild = {"*": ".*", "%": f"[^{folders.SEPARATOR}]*"}
    if re.fullmatch(r"[^*%]*", whole) and whole.upper() == "INBOX":
        whole = "INBOX"
    # Runs of wildcards say no more than one, and would make the expression slow
    whole = re.sub(r"[*%]*\*[*%]*", "*", whole)
    whole = re.sub(r"%+", "%", whole)
    return re.compile("".join(wild.get(c) or re.escape(c) for c in whole), re.DOTALL)


def _parents(names: Iterable[str]) -> set[str]:
    parents: set[str] = set()
    for name in names:
        while (at := name.rfind(folders.SEPARATOR)) > 0:
            name = name[:at]
            parents.add(name)
    return parents
