"""The folders of a target get the names and shapes of the source's: put away, renamed, made, subscribed.

Knows folders and the order in which their changes become safe. Does not know messages. What a folder is going to be
called is saved before the target is asked for it: a pass that dies in between has left it under one of two names that
are known, whatever else the target has there by then.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, replace

from onedomain.decision.link.actions import (
    Alert,
    CreateFolder,
    DeleteFolder,
    ListFolders,
    Plan,
    RenameFolder,
    Save,
    SetUse,
    Subscribe,
)
from onedomain.decision.link.folders import INBOX, Matched, plain_name, target_name
from onedomain.model.replica import Folder, FolderLink, LinkState, Listing, Mark, Side
from onedomain.model.validities import Validities

AWAY = "~gone~"
"""In the name of a folder that the source has no longer and the target still has, or that makes room for another."""

RENAMES = 4
"""Of each folder in one pass, on average: out of the way of others, and to its own name. More can't be needed."""


@dataclass(frozen=True, slots=True)
class Both:
    """A folder as it is on both sides now."""

    link: FolderLink
    here: Folder
    there: Mark


@dataclass(frozen=True, slots=True)
class Shaped:
    """`gone`: links of folders that the source has no longer."""

    state: LinkState
    both: tuple[Both, ...]
    gone: tuple[FolderLink, ...]


def shape(state: LinkState, matched: Matched, here: Listing, there: Listing, shown: Validities) -> Plan[Shaped]:
    """`matched`: with the names that the target's folders are found under. `shown`: as what clients see the source's
    UIDVALIDITYs.
    """
    work = _Shaping(replace(state, folders=matched.links), here, there, shown)
    yield from work.put_away()
    yield from work.rename()
    yield from work.make(matched.fresh)
    yield from (work.drop_strangers() if state.surplus else work.mind_strangers())
    return (yield from work.joined())


class _Shaping:
    def __init__(self, state: LinkState, here: Listing, there: Listing, shown: Validities) -> None:
        self._state = state
        self._here = here
        self._there = there
        self._shown = shown
        self._present = {folder.name: folder.mark for folder in there.folders}  # kept as it is
        self._reshaped = False  # it is not as it was listed

    def put_away(self) -> Plan[None]:
        """What the source has no longer goes when all else has been carried; its name may be wanted before."""
        for number, link in enumerate(self._state.folders):
            name = link.target_name
            if link.gone and name in self._present and name != INBOX and AWAY not in name:
                yield from self._rename(number, self._unused(name))

    def rename(self) -> Plan[None]:
        """Saved as each changes. What lies above others is first: they move along. A name may belong to a folder that
        is going to leave it; where such names form a ring, one of them makes room.
        """
        for _ in range(RENAMES * len(self._state.folders)):
            step = self._step(self._wanted())
            if step is None:
                break
            number, name = step
            for guest in self._guests(number, name):
                yield from self._rename(guest, self._unused(self._state.folders[guest].target_name))
            if not (yield from self._rename(number, name)):
                link = self._state.folders[number]
                others = {each.target_name for each in self._state.folders if each is not link}
                plain = plain_name(link.source_name, self._there, others)  # the old name may be wanted again
                yield _named_otherwise(link.source_name, name, plain)
                if not (yield from self._rename(number, plain, renamed=True)):
                    self._put(number, replace(link, renamed=True))
        waiting = self._wanted()
        for number, link in enumerate(self._state.folders):
            named = not link.gone and not link.renamed and number not in waiting and link.target_name in self._present
            if named and target_name(link.target_name, self._there, self._here, ()) != link.source_name:
                self._put(number, replace(link, renamed=True))

    def _wanted(self) -> dict[int, str]:
        """What links' folders should be called and are not, by their numbers. Those whose names are the same here keep
        what they have, or they would be renamed to and fro.
        """
        links = self._state.folders
        held = {link.target_name for link in links if link.renamed or self._is_left(link)}
        alike: defaultdict[str, list[int]] = defaultdict(list)
        for number, link in enumerate(links):
            if not link.gone and not link.renamed:
                alike[target_name(link.source_name, self._here, self._there, ())].append(number)
        wanted: dict[int, str] = {}
        for name, numbers in alike.items():
            alone = len(numbers) == 1 and name not in held
            # A twin's number must not make another folder's own name of it.
            others = frozenset() if alone else alike.keys() - {name}
            kept = [number for number in numbers if not alone and _is_twin(links[number].target_name, name)
                    and links[number].target_name not in others]
            used = held | others | {links[number].target_name for number in kept}
            for number in numbers:
                if number not in kept:
                    found = target_name(links[number].source_name, self._here, self._there, used)
                    used.add(found)
                    if found != links[number].target_name:
                        wanted[number] = found
        return dict(sorted(wanted.items(), key=lambda each: links[each[0]].source_name.count(self._here.separator)))

    def _step(self, wanted: dict[int, str]) -> tuple[int, str] | None:
        """Which of them is next, and what it is called then."""
        for number, name in tuple(wanted.items()):
            link = self._state.folders[number]
            if link.target_name not in self._present:
                del wanted[number]
                if not link.target.uidvalidity:  # it was never made
                    self._put(number, replace(link, target_name=self._name_for(number, name)))
        for number, name in wanted.items():
            if self._holder(number, name) is None:
                return number, name
        for number, name in wanted.items():
            at: int | None = number
            met: set[int | None] = set()
            while at in wanted and at not in met:
                met.add(at)
                at = self._holder(at, wanted[at])
            if at == number:
                return number, self._unused(name)
        for number, name in wanted.items():
            if name not in self._present and self._guests(number, name):
                return number, name
        return None  # strangers have those names; the links know their folders by either

    def _name_for(self, number: int, name: str) -> str:
        """What to call a folder that is not there, until another link has let go of that name: a rename would take both
        along.
        """
        links = self._state.folders
        taken = {link.target_name for i, link in enumerate(links) if i != number}
        if name not in taken:
            return name
        now = links[number].target_name
        return now if AWAY in now and now not in taken else self._unused(name)

    def _holder(self, number: int, name: str) -> int | None:
        """Who is in the way of this rename: the number of a link, -1 for a stranger; itself if it would lie below
        itself (RFC 9051 section 6.3.6).
        """
        old = self._state.folders[number].target_name
        if name.startswith(old + self._there.separator):
            return number
        taken = [to for each in self._moved(old) if (to := name + each[len(old) :]) in self._present]
        if not taken:
            return None
        return next((i for i, link in enumerate(self._state.folders) if link.target_name == taken[0]), -1)

    def _guests(self, number: int, name: str) -> list[int]:
        """Links of folders below it that this rename would take along to names that others have and keep. They step
        aside first, and have their own names after it. None if one of them has no link.
        """
        old = self._state.folders[number].target_name
        taken = [each for each in self._moved(old) if name + each[len(old) :] in self._present]
        links = {link.target_name: i for i, link in enumerate(self._state.folders) if i != number}
        separator = self._there.separator
        top = [each for each in taken if not any(each.startswith(other + separator) for other in taken)]
        return [links[each] for each in top] if all(each in links for each in top) else []

    def _unused(self, name: str) -> str:
        """To put it away under; also not used by what lies below, nor by a link whose folder is no longer there: two
        links of one name would have the folder deleted for both.
        """
        separator = self._there.separator
        aside = self._there.prefix + f"{name.removeprefix(self._there.prefix)}{AWAY}".replace(separator, "_")
        used = [each + separator for each in (*self._present, *(link.target_name for link in self._state.folders))]
        numbers = range(1, len(used) + 2)
        free = next(i for i in numbers if not any(each.startswith(f"{aside}{i}{separator}") for each in used))
        return f"{aside}{free}"

    def make(self, fresh: Collection[Folder]) -> Plan[None]:
        """Those that the target hasn't: new ones, and such as it lost."""
        # A link to what neither side has would be taken for one to a folder that is made under its name.
        links = [link for link in self._state.folders if not link.gone or self._is_left(link)]
        taken = {link.target_name for link in links}
        new = []
        for folder in fresh:
            name = target_name(folder.name, self._here, self._there, taken)
            renamed = target_name(name, self._there, self._here, ()) != folder.name
            new.append(FolderLink(folder.name, name, folder.identity, renamed=renamed))
            taken.add(name)
        self._state = replace(self._state, folders=(*links, *new))
        if fresh:
            yield Save(self._state)
        for number, link in enumerate(self._state.folders):
            here = self._here.find(link.source_name)
            there = self._present.get(link.target_name)
            if link.gone or here is None or (there is not None and (link.target.uidvalidity or there.uidnext > 1)):
                continue
            name, validity = link.target_name, self._shown.shown(here.mark.uidvalidity)
            made: Mark | None = yield CreateFolder(name, validity, here.special_use, here.identity)
            if made is None:
                name = plain_name(here.name, self._there, {each.target_name for each in self._state.folders})
                yield _named_otherwise(here.name, link.target_name, name)
                self._put(number, replace(link, target_name=name, renamed=True))
                yield Save(self._state)
                made = yield CreateFolder(name, validity, here.special_use, here.identity, must=True)
            assert made is not None
            self._put(number, replace(self._state.folders[number], asked="", special_use=here.special_use))
            self._present[name] = made
            self._reshaped = True

    def drop_strangers(self) -> Plan[None]:
        """After a return: what was made or renamed on the old primary, too late."""
        self._there = yield ListFolders(Side.TARGET)
        self._reshaped = False
        linked = {link.target_name for link in self._state.folders}
        for folder in self._there.folders:
            if folder.name not in linked and folder.name != INBOX:
                yield DeleteFolder(folder.name)

    def mind_strangers(self) -> Plan[None]:
        """What the target made by itself, or had before it became one. A folder that never had a message is dropped, or
        people would see it after a failover; of another a person is told. Each once: some servers make theirs again.
        """
        linked = {link.target_name for link in self._state.folders}
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
        for number, link in enumerate(self._state.folders):
            here, there = self._here.find(link.source_name), self._there.find(link.target_name)
            if link.gone or here is None:
                gone.append(link)
                continue
            subscribed = there is not None and there.subscribed
            mark = there.mark if there is not None else self._present.get(link.target_name, Mark())
            asked = yield from self._subscribe(number, link, here.subscribed, subscribed)
            link = replace(link, special_use=here.special_use, asked=asked)
            both.append(Both(link, here, mark))
        return Shaped(self._state, tuple(both), tuple(gone))

    def _use(self) -> Plan[None]:
        """Special uses that have changed since the last pass. A folder has to lose one before another can have it."""
        changed = []
        for link in self._state.folders:
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
                self._put(number, replace(link, asked=""))
                yield Save(self._state)
            yield Subscribe(link.target_name, wanted)
        return asked

    def _put(self, number: int, link: FolderLink) -> None:
        folders = self._state.folders
        self._state = replace(self._state, folders=(*folders[:number], link, *folders[number + 1 :]))

    def _is_left(self, link: FolderLink) -> bool:
        """The source has it no longer, and the target still has."""
        return link.gone and link.target_name in self._present

    def _moved(self, name: str) -> list[str]:
        """It and what lies below it."""
        return [each for each in self._present if each == name or each.startswith(name + self._there.separator)]

    def _rename(self, number: int, to: str, *, renamed: bool = False) -> Plan[bool]:
        """Whether the target has it under that name."""
        old = self._state.folders[number].target_name
        moved = self._moved(old)
        before = self._state.folders
        self._state = replace(self._state, folders=tuple(
            replace(link, becoming=to + link.target_name[len(old) :]) if link.target_name in moved else link
            for link in before
        ))  # fmt: skip
        yield Save(self._state)
        if not (yield RenameFolder(old, to)):
            self._state = replace(self._state, folders=before)
            return False
        self._reshaped = True
        for name in moved:
            self._present[to + name[len(old) :]] = self._present.pop(name)
        self._state = replace(self._state, folders=tuple(
            replace(link, target_name=link.becoming, becoming="", asked="") if link.becoming else link
            for link in self._state.folders
        ))  # fmt: skip
        self._put(number, replace(self._state.folders[number], renamed=renamed))
        yield Save(self._state)
        return True


def _is_twin(name: str, base: str) -> bool:
    """It, or it with the number of a twin."""
    return name == base or (name.startswith(f"{base}~") and name[len(base) + 1 :].isdigit())


def _named_otherwise(source_name: str, refused: str, name: str) -> Alert:
    return Alert(source_name, f"the replica will not have a folder named {refused}: it is called {name} there")
