"""Link states and promotions in the database: what is saved by whom, and what belongs into one transaction."""

from __future__ import annotations

from dataclasses import replace

from onedomain.app.real import RealClock
from onedomain.decision.placement import QuietBoard
from onedomain.directory.book import Book
from onedomain.directory.exchange import import_accounts
from onedomain.directory.leases import Leases
from onedomain.directory.links import LINKER, Links, SavedLink
from onedomain.directory.promotions import Promotions, Settled, swapped
from onedomain.directory.repository import Repository
from onedomain.model.account import Account, Home, Unit
from onedomain.model.replica import FolderLink, LinkState, Mark, Promotion, Shown
from onedomain.store.sql import Database
from tests.directory.test_repository import content, loaded
from tests.directory.views import EXAMPLE, account, server

STATE = LinkState(1, (FolderLink("INBOX", "INBOX", source=Mark(1, 2), target=Mark(1, 2)),))


def people(count: int) -> list[Account]:
    return [replace(account(f"u{number:04}@example.com"), home=Home("s1", ("s2", "s3"), 1)) for number in range(count)]


def link(address: str, epoch: int = 1, source: str = "s1", target: str = "s2") -> SavedLink:
    return SavedLink(address, source, target, epoch, STATE)


async def test_links_are_saved_by_the_holder_for_the_home_as_it_is(database: Database, repository: Repository) -> None:
    rows = people(3)
    async with repository.writing() as writer:
        await writer.put_many(rows)
    links, leases = Links(database, RealClock()), Leases(database)
    one, two, three = (row.address for row in rows)
    assert await links.save([link(one)], 1) == set(), "nobody has the lease"
    token = await leases.take(LINKER, "e1", 30)
    saved = await links.save([link(one), link(two, epoch=2), link(three, source="s3"), link("gone@example.com")], token)
    assert saved == {one}
    (found,) = await links.load(one)
    assert replace(found, saved=0.0) == link(one)
    assert [each.account async for each in links.all()] == [one]
    newer = await leases.take(LINKER, "e1", 30)
    assert await links.save([replace(link(one), state=LinkState(9))], token) == set(), "an older process is out"
    assert (await links.load(one))[0].state == STATE
    await links.forget(one, "s2", newer)
    assert await links.load(one) == []


async def test_what_was_accepted_is_for_the_brake_that_was_seen(database: Database, repository: Repository) -> None:
    rows = people(2)
    async with repository.writing() as writer:
        await writer.put_many(rows)
    links, leases = Links(database, RealClock()), Leases(database)
    one, two = (row.address for row in rows)
    token = await leases.take(LINKER, "e1", 30)
    braked = LinkState(1, (replace(STATE.folders[0], braked=True),))

    async def accepted() -> list[bool]:
        return [each.accepted > 0 async for each in links.all()]

    await links.save([replace(link(one), state=braked), replace(link(two), state=braked)], token)
    assert await accepted() == [False, False]
    assert not await links.accept(one, 1, token + 1) and not await links.accept(one, 2, token)
    assert not await links.accept("gone@example.com", 1, token)
    assert await accepted() == [False, False], "not without the lease, nor for another home"
    assert await links.accept(one, 1, token) and await accepted() == [True, False]
    await links.save([replace(link(one), state=braked), link(two)], token, accepted={one})
    assert await accepted() == [True, False], "it is braked still"
    await links.save([replace(link(one), state=braked)], token, accepted={two})
    assert await accepted() == [False, False], "and something else, too, since"
    assert await links.accept(one, 1, token) and await accepted() == [True, False]
    await links.save([link(one), replace(link(two), state=braked)], token)
    assert await accepted() == [False, False], "carried, so it is not for the next one"


async def test_a_server_is_promoted_at_once(database: Database, repository: Repository) -> None:
    other = replace(account("other@example.com"), home=Home("s2", ("s1",)))
    rows = [*people(1203), other, account("alone@example.com")]
    async with repository.writing() as writer:
        await writer.put_many(rows)
    promotions, links = Promotions(database, RealClock()), Links(database, RealClock())
    token = await Leases(database).take(LINKER, "e1", 30)
    await links.save([link(rows[0].address)], token)
    before = (await repository.version()).seq

    def choose(account: Account) -> str:
        return {"u0001@example.com": "", "u0002@example.com": "s3"}.get(account.address, "s2")

    assert await promotions.promote_server("s1", choose, "silent", token + 1) == ([], 0), "not without the lease"
    promoted, last = await promotions.promote_server("s1", choose, "silent", token)
    assert len(promoted) == 1202 and last == before + 1202 == (await repository.version()).seq
    assert (promoted[0].old, promoted[0].new) == ("s1", "s2")
    first, second = [await promotions.details(each.account, 2) for each in promoted[:2]]
    assert first and second and (first.state, second.state) == (STATE, None)
    assert await promotions.details(promoted[0].account, 3) is None
    homes = {row.address: row.home for row in await repository.accounts()}
    assert homes["u0000@example.com"] == Home("s2", ("s1", "s3"), 2, pending=True)
    assert homes["u0001@example.com"] == Home("s1", ("s2", "s3"), 1)
    assert homes["u0002@example.com"] == Home("s3", ("s2", "s1"), 2, pending=True)
    assert homes["other@example.com"] == Home("s2", ("s1",)) and homes["alone@example.com"] == Home("s1")
    assert (await repository.count())["head", "s1"] == 2
    assert await links.save([link(rows[0].address)], token) == set(), "the old link has ended"
    assert len(await promotions.pending()) == 1202 and len(await promotions.pending("s3")) == 1
    assert (await Leases(database).renew_edge("nobody", 0, 1)).granted is False


async def test_settled_then_returned(database: Database, repository: Repository) -> None:
    (row,) = people(1)
    async with repository.writing() as writer:
        await writer.add_account(row)
    promotions, links = Promotions(database, RealClock()), Links(database, RealClock())
    token = await Leases(database).take(LINKER, "e1", 30)
    await links.save([link(row.address)], token)
    await promotions.promote_accounts([row.address], lambda account: "s2", "by hand")
    assert await promotions.save_state(row.address, 2, replace(STATE, epoch=7), token)
    assert not await promotions.save_state(row.address, 2, STATE, token + 1), "an older process is out"
    (waiting,) = await promotions.pending()
    found = await promotions.details(waiting.account, waiting.epoch)
    assert found == replace(waiting, state=replace(STATE, epoch=7)) and found.result is None
    anew = [Shown(name, name, 5, renumbered=True) for name in ("INBOX", "Sent")]
    result = Promotion(2, (*anew, Shown("Lists", "Lists", 6)))
    assert await promotions.settle([Settled(row.address, 1, result)]) == set(), "another epoch's plan"
    settled = Settled(row.address, 2, result, no_modseq=True, shown="9 5:7", uidl="%v.%u", modseq_of="s1")
    assert await promotions.settle([settled], token + 1) == set(), "an older process is out"
    assert await promotions.settle([settled], token) == {row.address}
    home = Home("s2", ("s1", "s3"), 2, no_modseq=True, shown="9 5:7", uidl="%v.%u", modseq_of="s1")
    assert (await repository.account(row.address)).home == home  # type: ignore[union-attr]
    assert swapped(home, "s3") == replace(home, primary="s3", replicas=("s1", "s2"), epoch=3, pending=True)
    assert await promotions.settle([Settled(row.address, 2, result)]) == set(), "once"
    assert await promotions.pending() == [] and await links.load(row.address) == []
    (unreturned,) = await promotions.unreturned("s1")
    found = await promotions.details(row.address, 2)
    assert found == replace(unreturned, result=result, state=replace(STATE, epoch=7))
    back = link(row.address, 2, "s2", "s1")
    assert not await promotions.returned(row.address, 2, replace(back, epoch=3), token, 9, 9)
    assert not await promotions.returned(row.address, 2, back, token + 1, 9, 9), "an older process is out"
    assert await promotions.returned(row.address, 2, back, token, 3, 1)
    (last,) = await promotions.recent(0.0)
    assert (last.renumbered, last.added, last.aside) == (2, 3, 1)
    assert await promotions.left(row.address, "s1") == replace(STATE, epoch=7)
    assert await promotions.left(row.address, "s2") is None
    assert await promotions.unreturned() == []
    assert [each.target for each in await links.load(row.address)] == ["s1"]
    assert [each.cause for each in await promotions.recent(0.0)] == ["by hand"]
    assert content(await loaded(repository))[0] == [await repository.account(row.address)]


async def test_a_home_that_changed_meanwhile_is_nobodys_to_finish(database: Database, repository: Repository) -> None:
    (row,) = people(1)
    async with repository.writing() as writer:
        await writer.add_account(row)
    promotions = Promotions(database, RealClock())
    await promotions.promote_accounts([row.address], lambda account: "s2", "by hand")
    async with repository.writing() as writer:
        after = await writer.set_account(replace(row, home=Home("s3", ("s1",))))
    assert after.home == Home("s3", ("s1",), 3), "pending does not follow to another primary"
    assert await promotions.pending() == []
    assert await promotions.settle([Settled(row.address, 2, Promotion(2))]) == set()


async def test_an_account_that_leaves_takes_its_rows_along(database: Database, repository: Repository) -> None:
    (row,) = people(1)
    async with repository.writing() as writer:
        await writer.add_account(row)
    promotions = Promotions(database, RealClock())
    await promotions.promote_accounts([row.address], lambda account: "s2", "by hand")
    async with repository.writing() as writer:
        await writer.remove_account(row.address)
    async with repository.writing() as writer:
        back = await writer.add_account(row)
    assert back.home == Home("s1", ("s2", "s3"), 3)
    assert await promotions.recent(0.0) == []


async def test_replicas_are_changed_while_a_promotion_is_pending(database: Database, repository: Repository) -> None:
    """It stays the same promotion: who carries it out knows it by its epoch, and people wait for it."""
    (row,) = people(1)
    async with repository.writing() as writer:
        await writer.add_account(row)
    promotions = Promotions(database, RealClock())
    await promotions.promote_accounts([row.address], lambda account: "s2", "by hand")
    async with repository.writing() as writer:
        now = await writer.account(row.address)
        assert now is not None and now.home == Home("s2", ("s1", "s3"), 2, pending=True)
        await writer.set_account(replace(now, home=replace(now.home, replicas=("s3",))))
    (waiting,) = await promotions.pending()
    assert await promotions.settle([Settled(row.address, waiting.epoch, Promotion(waiting.epoch))]) == {row.address}
    now = await repository.account(row.address)
    assert now is not None and now.home == Home("s2", ("s3",), 2)


async def test_what_was_never_carried_out_is_taken_back(database: Database, repository: Repository) -> None:
    """The new primary is gone: the old one is the primary again at once, and the link goes on from where it was."""
    rows = people(1203)
    async with repository.writing() as writer:
        await writer.put_many(rows)
    promotions, links = Promotions(database, RealClock()), Links(database, RealClock())
    token = await Leases(database).take(LINKER, "e1", 30)
    names = [row.address for row in rows]
    olds = dict.fromkeys(names, "s1")
    await links.save([link(name) for name in names[:2]], token)
    await promotions.promote_server("s1", lambda account: "s2", "silent", token)
    assert await promotions.save_state(names[1], 2, replace(STATE, epoch=7), token), "its last passes carried more"
    await promotions.settle([Settled(names[2], 2, Promotion(2))], token)
    assert await promotions.take_back(olds, "silent", token + 1) == [], "not without the lease"
    assert await promotions.take_back(dict.fromkeys(names, "s3"), "silent", token) == []
    taken = await promotions.take_back(olds, "silent", token)
    assert {each.account for each in taken} == {*names} - {names[2]}
    assert {(each.epoch, each.old, each.new) for each in taken} == {(3, "s2", "s1")}
    homes = {row.address: row.home for row in await repository.accounts()}
    assert homes[names[0]] == Home("s1", ("s2", "s3"), 3) and homes[names[2]] == Home("s2", ("s1", "s3"), 2)
    assert await promotions.take_back(olds, "silent", token) == [], "once"
    assert await promotions.pending() == [] and [each.account for each in await promotions.unreturned()] == [names[2]]
    assert not await promotions.save_state(names[1], 2, STATE, token), "a plan that goes on all the same is told so"
    states = {}
    for name in names[:2]:
        (found,) = await links.load(name)
        states[name] = found.state.epoch
        assert (found.source, found.target, found.epoch) == ("s1", "s2", 3)
    assert states == {names[0]: 1, names[1]: 7}
    assert await links.save([link(names[0], epoch=3)], token) == {names[0]}
    assert content(await loaded(repository))[0] == sorted(await repository.accounts(), key=lambda row: row.address)


async def test_a_folder_whose_name_is_no_text_holds_up_nobody(database: Database, repository: Repository) -> None:
    """Old servers have names in other people's alphabets, whatever IMAP says; links keep them as they are."""
    rows = people(2)
    async with repository.writing() as writer:
        await writer.put_many(rows)
    promotions, links = Promotions(database, RealClock()), Links(database, RealClock())
    token = await Leases(database).take(LINKER, "e1", 30)
    odd = replace(STATE, folders=(*STATE.folders, FolderLink("B\udce4ume\x00", "Büume~1")))
    one, two = link(rows[0].address), replace(link(rows[1].address), state=odd)
    assert await links.save([one, two], token) == {one.account, two.account}
    assert (await links.load(two.account))[0].state == odd
    await promotions.promote_accounts([two.account], lambda account: "s2", "by hand", token)
    result = Promotion(2, (Shown("B\udce4ume\x00", "Büume~1", 5),))
    assert await promotions.settle([Settled(two.account, 2, result)], token) == {two.account}
    found = await promotions.details(two.account, 2)
    assert found is not None and (found.state, found.result) == (odd, result)


async def test_a_further_replica_lets_the_link_to_the_first_go_on(database: Database, repository: Repository) -> None:
    """Else it would pair again from the beginning, and nobody could follow if the primary died meanwhile."""
    rows = [replace(each, home=Home("s1", ("s2",), 1)) for each in people(3)]
    async with repository.writing() as writer:
        await writer.put_many(rows)
    links = Links(database, RealClock())
    token = await Leases(database).take(LINKER, "e1", 30)
    names = [row.address for row in rows]
    await links.save([link(name) for name in names], token)
    view = Book([EXAMPLE], [Unit("head", ("s1", "s2", "s3"))], [server(name) for name in ("s1", "s2", "s3")])
    async with repository.writing() as writer:
        await writer.set_account(replace(rows[0], home=Home("s1", ("s2", "s3"))))
        await writer.set_account(replace(rows[1], home=Home("s1", ("s3", "s2"))))
    report = await import_accounts(repository, view, QuietBoard(), f"address,replicas\n{names[2]},s2 s3\n")
    assert not report.errors and report.changed
    found = [(await links.load(name))[0] for name in names]
    assert [each.epoch for each in found] == [2, 1, 2], "to another first one it is another link"
    assert found[0].state == found[2].state == STATE


async def test_a_return_is_open_while_a_promotion_may_be_taken_back(database: Database, repository: Repository) -> None:
    """A linker that begins then has to know of it: if the old primary goes on, its replica's tail is to be brought."""
    (row,) = people(1)
    async with repository.writing() as writer:
        await writer.put_many([row])
    promotions = Promotions(database, RealClock())
    await promotions.promote_server("s1", lambda account: "s2", "silent")
    await promotions.settle([Settled(row.address, 2, Promotion(2))])
    await promotions.promote_accounts([row.address], lambda account: "s1", "by hand")
    assert [each.epoch for each in await promotions.unreturned()] == [2]
    await promotions.take_back({row.address: "s2"}, "silent")
    assert [each.epoch for each in await promotions.unreturned()] == [2]
    await promotions.promote_accounts([row.address], lambda account: "s1", "by hand")
    await promotions.settle([Settled(row.address, 5, Promotion(5))])
    assert [each.epoch for each in await promotions.unreturned()] == [5], "what it left is at home again"
