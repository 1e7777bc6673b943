"""The folders of a target get the names of the source's: those that are gone are put away, those that moved follow.

Knows links, names and the order in which renames become safe. Does not know messages, nor how folders are made. What a
folder is going to be called is saved before the target is asked for it: a pass that dies in between has left it under
one of two names that are known, whatever else the target has there by then. So renames that have nothing to do with
each other are saved together: with thousands of folders a state is not small.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Container
from dataclasses import dataclass, replace
from itertools import count

from onedomain.decision.link.actions import Alert, Plan, RenameFolder, Save
from onedomain.decision.link.folders import INBOX, plain_name, target_name
from onedomain.decision.link.names import Names
from onedomain.model.replica import FolderLink, LinkState, Listing

AWAY = "~gone~"
"""In the name of a folder that the source has no longer and the target still has, or that makes room for another."""

RENAMES = 4
"""Of each folder in one pass, on average: out of the way of others, and to its own name. More can't be needed."""

TOGETHER = 50
"""Renames between two saves."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """A rename that is to be asked for. `moved`: the names that go along, with the links that have them."""

    number: int
    old: str
    to: str
    own: bool
    renamed: bool
    moved: tuple[tuple[str, tuple[int, ...]], ...]


class Renaming:
    """`links` and `present`: as they are when everything that was asked for so far has been done; it has, outside."""

    def __init__(self, state: LinkState, here: Listing, there: Listing) -> None:
        self._state = state
        self._here = here
        self._there = there
        self._separator = there.separator
        self.links = list(state.folders)
        self.present = {folder.name: folder.mark for folder in there.folders}
        self.reshaped = False  # the target is not as it was listed
        self._names = Names(self.present, self._separator)
        self._linked = Names((link.target_name for link in self.links), self._separator)
        self._at: defaultdict[str, list[int]] = defaultdict(list)  # links by the names of their folders
        for number, link in enumerate(self.links):
            self._at[link.target_name].append(number)
        self._goals: dict[int, str] = {}
        self._wanted: dict[int, str] = {}  # those goals that are not reached
        self._alike: set[int] = set()  # links whose goal depends on what others are called
        self._stale = True
        self._asked: list[_Asked] = []
        self._before: dict[int, FolderLink] = {}  # with what they are becoming
        self._busy = Names((), self._separator)  # names that the renames asked for begin or end with

    @property
    def state(self) -> LinkState:
        return replace(self._state, folders=tuple(self.links))

    def put(self, number: int, link: FolderLink) -> None:
        before = self.links[number].target_name
        if link.target_name != before:
            self._at[before].remove(number)
            self._at[link.target_name].append(number)
            self._linked.discard(before)
            self._linked.add(link.target_name)
        self.links[number] = link

    def is_left(self, link: FolderLink) -> bool:
        """The source has it no longer, and the target still has."""
        return link.gone and link.target_name in self.present

    # -- what is asked for

    def put_away(self) -> Plan[None]:
        """What the source has no longer goes when all else has been carried; its name may be wanted before."""
        for number in range(len(self.links)):
            name = self.links[number].target_name
            if self.links[number].gone and name in self.present and name != INBOX and AWAY not in name:
                while not (yield from self._ask(number, self._unused(name))):
                    pass  # the second time nothing is before it
        yield from self._settle()

    def rename(self) -> Plan[None]:
        """What lies above others is first: they move along. A name may belong to a folder that is going to leave it;
        where such names form a ring, one of them makes room. Strangers keep their names; the links know their folders
        by either.
        """
        most = RENAMES * len(self.links)
        while most > 0:
            before = most
            most -= yield from self._follow(most)
            if most > 0:
                most -= yield from self._make_way()
            if most == before:
                break
        self._name_absent()
        self._refresh()
        for number, link in enumerate(self.links):
            named = not link.gone and not link.renamed and number not in self._wanted
            spelt_back = target_name(link.target_name, self._there, self._here, ())
            if named and link.target_name in self.present and spelt_back != link.source_name:
                self.put(number, replace(link, renamed=True))

    def _follow(self, most: int) -> Plan[int]:
        """All that can have their names, each after the one that holds it. Returns how many renames that took."""
        done = 0
        waiting = deque(self._wanted)
        chain: list[int] = []  # each waits for the one after it
        stuck: set[int] = set()
        while done < most:
            if self._stale:
                self._refresh()
                self._name_absent()
                waiting, chain, stuck = deque(self._wanted), [], set()
            if not chain:
                if not waiting:
                    break
                chain.append(waiting.popleft())
            number = chain[-1]
            if number not in self._wanted or number in stuck:
                stuck.update(chain if number in stuck else ())
                chain.pop()
                continue
            name = self._wanted[number]
            holder = self._holder(number, name)
            if holder is not None and holder not in chain:
                if holder in self._wanted:
                    chain.append(holder)
                else:
                    stuck.update(chain)
                    chain.clear()
                continue
            if holder is not None:  # a ring
                name = self._unused(name)
                waiting.append(number)
            chain.pop()
            done += 1
            yield from self._ask(number, name, own=True)
        yield from self._settle()
        return done

    def _make_way(self) -> Plan[int]:
        """For the first that would take others along to names that are taken: they step aside."""
        for number, name in tuple(self._wanted.items()):
            guests = [] if name in self.present else self._guests(number, name)
            for guest in guests:
                yield from self._ask(guest, self._unused(self.links[guest].target_name))
            if guests:
                if not (yield from self._settle()):
                    yield from self._ask(number, name, own=True)
                    yield from self._settle()
                return len(guests) + 1
        return 0

    # -- what things should be called

    def _refresh(self) -> None:
        """What links' folders should be called and are not, by their numbers. Those whose names are the same here keep
        what they have, or they would be renamed to and fro.
        """
        self._stale = False
        links = self.links
        held = {link.target_name for link in links if link.renamed or self.is_left(link)}
        by_name: defaultdict[str, list[int]] = defaultdict(list)
        for number, link in enumerate(links):
            if not link.gone and not link.renamed:
                by_name[target_name(link.source_name, self._here, self._there, ())].append(number)
        self._goals, self._alike = {}, set()
        crowded: list[tuple[str, list[int]]] = []
        for name, numbers in by_name.items():
            if len(numbers) == 1 and name not in held:
                self._goals[numbers[0]] = name
                continue
            self._alike.update(numbers)
            kept = [number for number in numbers if _is_twin(links[number].target_name, name)
                    and (links[number].target_name == name or links[number].target_name not in by_name)]
            self._goals.update((number, links[number].target_name) for number in kept)
            held.update(links[number].target_name for number in kept)
            crowded.append((name, [number for number in numbers if number not in kept]))
        for name, numbers in crowded:
            for number in numbers:
                found = target_name(links[number].source_name, self._here, self._there, _Taken(held, by_name, name))
                held.add(found)
                self._goals[number] = found
        wanted = [number for number, name in self._goals.items() if name != links[number].target_name]
        wanted.sort(key=lambda number: links[number].source_name.count(self._here.separator))
        self._wanted = {number: self._goals[number] for number in wanted}

    def _name_absent(self) -> None:
        """One that was never made is only given a name, until another link has let go of it: a rename would take both
        along.
        """
        for number, name in tuple(self._wanted.items()):
            link = self.links[number]
            if link.target_name in self.present:
                continue
            del self._wanted[number]
            if not link.target.uidvalidity:
                now = link.target_name
                if self._is_free(name, number):
                    now = name
                elif AWAY not in now or not self._is_free(now, number):
                    now = self._unused(name)
                self.put(number, replace(link, target_name=now))

    def _is_free(self, name: str, number: int) -> bool:
        return all(other == number for other in self._at.get(name, ()))

    def _holder(self, number: int, name: str) -> int | None:
        """Who is in the way of this rename: the number of a link, -1 for a stranger; itself if it would lie below
        itself (RFC 9051 section 6.3.6).
        """
        old = self.links[number].target_name
        if name.startswith(old + self._separator):
            return number
        taken = next((to for each in self._moved(old) if (to := name + each[len(old) :]) in self.present), None)
        if taken is None:
            return None
        return min(self._at.get(taken, ()), default=-1)

    def _guests(self, number: int, name: str) -> list[int]:
        """Links of folders below it that this rename would take along to names that others have and keep. They step
        aside first, and have their own names after it. None if one of them has no link.
        """
        old = self.links[number].target_name
        taken = [each for each in self._moved(old) if name + each[len(old) :] in self.present]
        all_taken = Names(taken, self._separator)
        top = [each for each in taken if not all_taken.above(each)]
        found = [next((other for other in self._at.get(each, ()) if other != number), -1) for each in top]
        return [] if -1 in found else found

    def _unused(self, name: str) -> str:
        """To put it away under; also not used by what lies below, nor by a link whose folder is no longer there: two
        links of one name would have the folder deleted for both.
        """
        prefix = self._there.prefix
        aside = prefix + f"{name.removeprefix(prefix)}{AWAY}".replace(self._separator, "_")
        free = (f"{aside}{number}" for number in count(1))
        return next(each for each in free if not self._names.occupied(each) and not self._linked.occupied(each))

    def _moved(self, name: str) -> list[str]:
        """It and what lies below it."""
        return [*([name] if name in self.present else ()), *self._names.below(name)]

    # -- doing it

    def _ask(self, number: int, to: str, *, own: bool = False, renamed: bool = False) -> Plan[bool]:
        """`own`: that is the folder's name, so if the target will never have it, a plain one is found. False: it was
        not asked for, as something before it was refused: names are others now than when it was thought of.
        """
        ends = (self.links[number].target_name, to)
        close = any(self._busy.occupied(each) or self._busy.above(each) for each in ends)
        if (close or len(self._asked) == TOGETHER) and (yield from self._settle()):
            return False
        old = ends[0]
        names = self._moved(old)
        moved = tuple((name, tuple(self._at.get(name, ()))) for name in names)
        for name, numbers in moved:
            self._pass_on(name, to + name[len(old) :], numbers)
            for each in numbers:
                link = self.links[each]
                self._before[each] = replace(link, becoming=to + name[len(old) :])
                self.put(each, replace(link, target_name=to + name[len(old) :], becoming="", asked=""))
                self._reached(each)
        for end in ends:
            self._busy.add(end)
        self._asked.append(_Asked(number, old, to, own, renamed, moved))
        return True

    def _pass_on(self, name: str, to: str, numbers: tuple[int, ...]) -> None:
        self.present[to] = self.present.pop(name)
        self._names.discard(name)
        self._names.add(to)

    def _reached(self, number: int) -> None:
        link, goal = self.links[number], self._goals.get(number)
        if link.renamed or link.gone or number in self._alike:
            self._stale = True  # what others may be called is another thing now
        elif goal == link.target_name:
            self._wanted.pop(number, None)
        elif goal is not None:
            self._wanted[number] = goal

    def _settle(self) -> Plan[bool]:
        """Saved, done, and saved that it is. Whether anything was refused."""
        if not self._asked:
            return False
        folders = list(self.links)
        for number, link in self._before.items():
            folders[number] = link
        yield Save(replace(self._state, folders=tuple(folders)))
        asked, before = self._asked, self._before
        self._asked, self._before, self._busy = [], {}, Names((), self._separator)
        refused = []
        for each in asked:
            if (yield RenameFolder(each.old, each.to)):
                self.reshaped = True
                self.put(each.number, replace(self.links[each.number], renamed=each.renamed))
                continue
            for name, numbers in each.moved:
                self._pass_on(each.to + name[len(each.old) :], name, numbers)
                for number in numbers:
                    self.put(number, replace(before[number], becoming=""))
            self._stale = True
            refused.append(each)
        yield Save(self.state)
        for each in refused:
            if each.renamed:
                self.put(each.number, replace(self.links[each.number], renamed=True))
            elif each.own:
                yield from self._name_otherwise(each)
        return bool(refused)

    def _name_otherwise(self, refused: _Asked) -> Plan[None]:
        link = self.links[refused.number]
        others = {each.target_name for each in self.links if each is not link}
        plain = plain_name(link.source_name, self._there, others)  # the old name may be wanted again
        yield named_otherwise(link.source_name, refused.to, plain)
        yield from self._ask(refused.number, plain, renamed=True)
        yield from self._settle()


class _Taken:
    """Names that a twin can't have: those that are held, and any that is another folder's own, though nobody has it."""

    def __init__(self, held: Container[str], own: Container[str], name: str) -> None:
        self._held = held
        self._own = own
        self._name = name

    def __contains__(self, name: object) -> bool:
        return name in self._held or (name != self._name and name in self._own)


def _is_twin(name: str, base: str) -> bool:
    """It, or it with the number of a twin."""
    return name == base or (name.startswith(f"{base}~") and name[len(base) + 1 :].isdigit())


def named_otherwise(source_name: str, refused: str, name: str) -> Alert:
    return Alert(source_name, f"the replica will not have a folder named {refused}: it is called {name} there")
