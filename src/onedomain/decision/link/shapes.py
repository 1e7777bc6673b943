"""The folders of a target get the shapes of the source's: named, made, dropped, subscribed.

Knows folders. Does not know messages, nor how names pass from one to another (renaming.py).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from onedomain.decision.link.actions import (
    Alert,
    CreateFolder,
    DeleteFolder,
    ListFolders,
    NotNow,
    Plan,
    Save,
    SetUse,
    Subscribe,
)
from onedomain.decision.link.folders import INBOX, Matched, plain_name, target_name
from onedomain.decision.link.renaming import Renaming, named_otherwise
from onedomain.model.replica import Folder, FolderLink, LinkState, Listing, Mark, Side
from onedomain.model.validities import Validities

REFUSALS = 10
"""Folders that a pass asks for in vain. It asks for no more: a server that has no room has none for any."""


@dataclass(frozen=True, slots=True)
class Both:
    """A folder as it is on both sides now."""

    link: FolderLink
    here: Folder
    there: Mark


@dataclass(frozen=True, slots=True)
class Shaped:
    """`gone`: links of folders that the source has no longer. `waiting`: the target does not make them now, and why.
    `late`: after a return, some of the old primary's own folders are there still.
    """

    state: LinkState
    both: tuple[Both, ...]
    gone: tuple[FolderLink, ...]
    waiting: tuple[Both, ...] = ()
    refusal: str = ""
    late: bool = False


def shape(state: LinkState, matched: Matched, here: Listing, there: Listing, shown: Validities) -> Plan[Shaped]:
    """`matched`: with the names that the target's folders are found under. `shown`: as what clients see the source's
    UIDVALIDITYs.
    """
    names = Renaming(replace(state, folders=matched.links), here, there)
    yield from names.put_away()
    yield from names.rename()
    work = _Shaping(names, here, there, shown)
    yield from work.make(matched.fresh)
    yield from (work.drop_strangers() if state.surplus else work.mind_strangers())
    return (yield from work.joined())


class _Shaping:
    def __init__(self, names: Renaming, here: Listing, there: Listing, shown: Validities) -> None:
        self._state = names.state
        self._links = list(self._state.folders)
        self._here = here
        self._there = there
        self._shown = shown
        self._present = names.present  # kept as it is
        self._reshaped = names.reshaped  # it is not as it was listed
        self._waiting: dict[int, str] = {}  # links, and why their folders are not made now
        self._late = False

    def _now(self) -> LinkState:
        return replace(self._state, folders=tuple(self._links))

    def make(self, fresh: Collection[Folder]) -> Plan[None]:
        """Those that the target hasn't: new ones, and such as it lost."""
        # A link to what neither side has would be taken for one to a folder that is made under its name.
        links = [link for link in self._links if not link.gone or link.target_name in self._present]
        taken = {link.target_name for link in links}
        for folder in fresh:
            name = target_name(folder.name, self._here, self._there, taken)
            renamed = target_name(name, self._there, self._here, ()) != folder.name
            source = Mark(folder.mark.uidvalidity)
            links.append(FolderLink(folder.name, name, folder.identity, source, renamed=renamed))
            taken.add(name)
        self._links = links
        if fresh:
            yield Save(self._now())
        for number, link in enumerate(links):
            here = self._here.find(link.source_name)
            there = self._present.get(link.target_name)
            if link.gone or here is None or (there is not None and (link.target.uidvalidity or there.uidnext > 1)):
                continue
            if there is None and len(self._waiting) >= REFUSALS:
                self._waiting[number] = next(iter(self._waiting.values()))
                continue
            made = yield from self._made(number, here)
            if isinstance(made, NotNow):
                self._waiting[number] = made.reason
                continue
            link = self._links[number]
            self._links[number] = replace(link, asked="", special_use=here.special_use)
            self._present[link.target_name] = made
            self._reshaped = True

    def _made(self, number: int, here: Folder) -> Plan[Mark | NotNow]:
        """Under a plain name if the target has that and will never have its own. If it has neither, the name is not the
        reason: it keeps its own, and waits.
        """
        link, validity = self._links[number], self._shown.shown(here.mark.uidvalidity)
        made: Mark | NotNow | None = yield CreateFolder(
            link.target_name, validity, here.special_use, here.identity, may_wait=True)
        if made is not None:
            return made
        plain = plain_name(here.name, self._there, {each.target_name for each in self._links})
        self._links[number] = replace(link, target_name=plain, renamed=True)
        yield Save(self._now())
        made = yield CreateFolder(plain, validity, here.special_use, here.identity, may_wait=True)
        if isinstance(made, Mark):
            yield named_otherwise(here.name, link.target_name, plain)
            return made
        self._links[number] = link
        yield Save(self._now())
        return made or NotNow(f"the replica has no folder {link.target_name}, and makes none named {plain}")

    def drop_strangers(self) -> Plan[None]:
        """After a return: what was made or renamed on the old primary, too late."""
        self._there = yield ListFolders(Side.TARGET)
        self._reshaped = False
        linked = {link.target_name for link in self._links}
        for folder in self._there.folders:
            if folder.name not in linked and folder.name != INBOX and (yield DeleteFolder(folder.name)) is False:
                self._late = True

    def mind_strangers(self) -> Plan[None]:
        """What the target made by itself, or had before it became one. A folder that never had a message is dropped, or
        people would see it after a failover; of another a person is told. Each once: some servers make theirs again.
        """
        linked = {link.target_name for link in self._links}
        above = tuple(f"{name}{self._there.separator}" for name in linked)
        strange = [name for name in self._present if name not in linked and name != INBOX
                   and not any(each.startswith(name + self._there.separator) for each in above)]
        for name in strange:
            if name not in self._state.strangers:
                if self._present[name].uidnext > 1:
                    yield Alert("", f"{name} is on the replica only; it stays there, as it is")
                else:
                    yield DeleteFolder(name, must=False)
                    self._reshaped = True
        self._state = replace(self._state, strangers=tuple(sorted(strange)))

    def joined(self) -> Plan[Shaped]:
        if self._reshaped:
            self._there = yield ListFolders(Side.TARGET)
        yield from self._use()
        both: list[Both] = []
        gone: list[FolderLink] = []
        waiting: list[Both] = []
        for number, link in enumerate(self._links):
            here, there = self._here.find(link.source_name), self._there.find(link.target_name)
            if link.gone or here is None:
                gone.append(link)
                continue
            if number in self._waiting:
                waiting.append(Both(link, here, Mark()))
                continue
            subscribed = there is not None and there.subscribed
            mark = there.mark if there is not None else self._present.get(link.target_name, Mark())
            asked = yield from self._subscribe(number, link, here.subscribed, subscribed)
            link = replace(link, special_use=here.special_use, asked=asked)
            both.append(Both(link, here, mark))
        refusal = next(iter(self._waiting.values()), "")
        return Shaped(self._now(), tuple(both), tuple(gone), tuple(waiting), refusal, self._late)

    def _use(self) -> Plan[None]:
        """Special uses that have changed since the last pass. A folder has to lose one before another can have it."""
        changed = []
        for link in self._links:
            here, there = self._here.find(link.source_name), self._there.find(link.target_name)
            if link.gone or here is None or there is None:
                continue
            if here.special_use not in (link.special_use, there.special_use):
                changed.append((there, here.special_use))
        for there, _ in changed:
            if there.special_use:
                yield SetUse(there.name, "")
        for there, use in changed:
            if use:
                yield SetUse(there.name, use)

    def _subscribe(self, number: int, link: FolderLink, wanted: bool, subscribed: bool) -> Plan[str]:
        if wanted == subscribed:
            return ""
        asked = "SUBSCRIBE" if wanted else "UNSUBSCRIBE"
        if asked != link.asked:  # else it had no effect: Dovecot's `auto = subscribe`
            if link.asked:  # it must not pass for the last word if this pass dies
                self._links[number] = replace(link, asked="")
                yield Save(self._now())
            yield Subscribe(link.target_name, wanted)
        return asked
