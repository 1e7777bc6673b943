"""Where the mail for one address goes: a table, and what must hold for every directory."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onedomain.decision.recipient import DEPTH, Accept, Refuse, canonical, resolve
from onedomain.model.account import Account, Alias, Domain
from onedomain.model.address import Address, parse_address
from tests.directory.views import account, book

VIEW = book(
    account("taro@example.com"),
    account("boss@example.com"),
    account("a..b@example.com"),
    account("a.@example.com"),
    account("off@example.com", "taro@example.com", enabled=False),
    account("away@example.com", "me@gmail.example"),
    account("left@example.com", "me@gmail.example", keep=False),
    account("lost@example.com", "nobody@example.com", keep=False),
    account("ping@example.com", "pong@example.com", keep=False),
    account("pong@example.com", "ping@example.com", keep=False),
    account("both+box@example.com"),
    account("both@example.com"),
    account("モモ@example.com"),
    Alias("info@example.com", ("taro@example.com", "boss@example.com")),
    Alias("all@example.com", ("info@example.com", "taro+list@example.com", "pal@other.example", "away@example.com")),
    Alias("home@example.com", ("TARO@Example.CO.JP",)),
    Alias("half@example.com", ("nobody@example.com", "taro@example.com")),
    Alias("dead@example.com", ("nobody@example.com",)),
    Alias("asleep@example.com", ("off@example.com",)),
    Alias("empty@example.com", ()),
    Alias("broken@example.com", ("no address",)),
    Alias("round@example.com", ("loop@example.com",)),
    Alias("loop@example.com", ("round@example.com",)),
    Alias("self@example.com", ("self@example.com", "taro@example.com")),
)

REACHES = [
    ("taro@example.com", ["taro@example.com"]),
    ("TARO@EXAMPLE.COM", ["taro@example.com"]),
    ("taro@example.com.", ["taro@example.com"]),
    ("taro@example.co.jp", ["taro@example.com"]),
    ("taro+shop@example.com", ["taro@example.com"]),
    ("both+box@example.com", ["both+box@example.com"]),
    ("both+bag@example.com", ["both@example.com"]),
    ("a..b@example.com", ["a..b@example.com"]),
    ('"a..b"@example.com', ["a..b@example.com"]),
    ('"a\\..b"@example.com', ["a..b@example.com"]),
    ("a.@example.com", ["a.@example.com"]),
    ("モモ@example.com", ["モモ@example.com"]),
    ("info@example.com", ["taro@example.com", "boss@example.com"]),
    ("info+x@example.com", ["taro@example.com", "boss@example.com"]),
    ("all@example.com", ["taro@example.com", "boss@example.com", "pal@other.example", "me@gmail.example",
                         "away@example.com"]),
    ("home@example.com", ["taro@example.com"]),
    ("half@example.com", ["taro@example.com"]),
    ("away@example.com", ["me@gmail.example", "away@example.com"]),
    ("left@example.com", ["me@gmail.example"]),
    ("lost@example.com", ["lost@example.com"]),
    ("ping@example.com", ["pong@example.com"]),
    ("self@example.com", ["taro@example.com"]),
    ("postmaster@example.com", ["boss@example.com"]),
    ("PostMaster@example.co.jp", ["boss@example.com"]),
]  # fmt: skip

REFUSES = [
    ("nobody@example.com", 550, "5.1.1"),
    ("nobody@example.co.jp", 550, "5.1.1"),
    ("+taro@example.com", 550, "5.1.1"),
    ('"ta ro"@example.com', 550, "5.1.1"),
    ("off@example.com", 550, "5.2.1"),
    ("dead@example.com", 550, "5.1.1"),
    ("asleep@example.com", 550, "5.2.1"),
    ("empty@example.com", 451, "4.3.5"),
    ("broken@example.com", 451, "4.3.5"),
    ("round@example.com", 451, "4.4.6"),
    ("taro@other.example", 550, "5.7.1"),
    ("taro@sub.example.com", 550, "5.7.1"),
    ("taro@[127.0.0.1]", 550, "5.7.1"),
]


def where(answer: Accept | Refuse) -> list[str]:
    assert isinstance(answer, Accept), answer
    return [target.account or target.address for target in answer.targets]


@pytest.mark.parametrize(("address", "targets"), REACHES)
def test_reaches(address: str, targets: list[str]) -> None:
    assert where(resolve(VIEW, parse_address(address))) == targets


@pytest.mark.parametrize(("address", "code", "enhanced"), REFUSES)
def test_refuses(address: str, code: int, enhanced: str) -> None:
    answer = resolve(VIEW, parse_address(address))
    assert isinstance(answer, Refuse)
    assert (answer.failure.code, answer.failure.enhanced) == (code, enhanced)


def test_target_carries_what_rcpt_needs() -> None:
    answer = resolve(VIEW, parse_address("Taro+Shop@Example.co.jp"), original="rfc822;Taro+Shop@Example.co.jp")
    assert isinstance(answer, Accept)
    [target] = answer.targets
    assert (target.address, target.account) == ("Taro+Shop@example.com", "taro@example.com")
    assert target.original == "rfc822;Taro+Shop@Example.co.jp"
    assert [found.address for found in answer.accounts] == ["taro@example.com"]


def test_original_is_the_address_unless_given() -> None:
    answer = resolve(VIEW, parse_address("info@example.com"))
    assert isinstance(answer, Accept)
    assert {target.original for target in answer.targets} == {"info@example.com"}


def test_outside_after_log_in_only() -> None:
    outside = parse_address("Someone@Other.Example")
    assert isinstance(resolve(VIEW, outside), Refuse)
    answer = resolve(VIEW, outside, allow_outside=True)
    assert isinstance(answer, Accept)
    assert [(target.address, target.is_local) for target in answer.targets] == [("Someone@Other.Example", False)]


def test_what_leads_nowhere_is_named() -> None:
    answer = resolve(VIEW, parse_address("half@example.com"))
    assert isinstance(answer, Accept)
    assert answer.skipped == ("half@example.com -> nobody@example.com: nobody@example.com is unknown",)


def test_catch_all() -> None:
    view = book(
        account("taro@example.com"),
        account("off@example.com", enabled=False),
        Alias("@example.com", ("taro@example.com", "archive@other.example")),
    )
    for unknown in ("whoever@example.co.jp", "postmaster@example.com"):
        assert where(resolve(view, parse_address(unknown))) == ["taro@example.com", "archive@other.example"]
    assert isinstance(resolve(view, parse_address("off@example.com")), Refuse)
    nowhere = book(Alias("@example.com", ("gone@example.com",)))
    answer = resolve(nowhere, parse_address("whoever@example.com"))
    assert isinstance(answer, Refuse) and answer.failure.enhanced == "4.4.6"


def test_postmaster_of_a_disabled_account_still_works() -> None:
    view = book(account("boss@example.com"), account("postmaster@example.com", enabled=False))
    assert where(resolve(view, parse_address("postmaster@example.com"))) == ["boss@example.com"]


def test_postmaster_may_be_outside() -> None:
    view = book(domains=(Domain("example.com", "example.com", "+", "help@provider.example"),))
    assert where(resolve(view, parse_address("postmaster@example.com"))) == ["help@provider.example"]


def test_no_tags_where_the_domain_has_no_separator() -> None:
    view = book(account("taro@example.com"), domains=(Domain("example.com", "example.com", ""),))
    assert isinstance(resolve(view, parse_address("taro+x@example.com")), Refuse)
    dash = book(account("taro@example.com"), domains=(Domain("example.com", "example.com", "-"),))
    assert where(resolve(dash, parse_address("taro-x@example.com"))) == ["taro@example.com"]


@pytest.mark.parametrize(
    ("address", "rcpts"),
    [
        ("sales+shop@example.com", ["taro+shop@example.com"]),
        ("Sales+Shop@example.co.jp", ["taro+Shop@example.com"]),
        ("deep+shop@example.com", ["taro+shop@example.com"]),
        ("sales@example.com", ["taro@example.com"]),
        ("filed+shop@example.com", ["taro+here@example.com"]),
        ("several+shop@example.com", ["taro+shop@example.com", "hanako+shop@example.com", "me@other.example"]),
        ("hers+private@example.com", ["hanako@example.com"]),
        ("sales+" + "x" * 58 + "@example.com", ["taro+" + "x" * 58 + "@example.com"]),
        ("hers+" + "x" * 59 + "@example.com", ["hanako@example.com"]),
        ("round+shop@example.com", []),
        ("whoever+shop@example.com", ["taro@example.com"]),
        ("away+shop@example.com", ["hanako@example.com", "away+shop@example.com"]),
    ],
)
def test_a_tag_goes_along_through_an_alias(address: str, rcpts: list[str]) -> None:
    view = book(
        account("taro@example.com"), account("hanako@example.com"), account("hanako+private@example.com"),
        account("away@example.com", "hanako@example.com"),
        Alias("sales@example.com", ("taro@example.com",)),
        Alias("hers@example.com", ("hanako@example.co.jp",)),
        Alias("deep@example.com", ("sales@example.com",)),
        Alias("filed@example.com", ("taro+here@example.com",)),
        Alias("several@example.com", ("taro@example.com", "hanako@example.com", "me@other.example")),
        Alias("round@example.com", ("round@example.com",)),
        Alias("@example.com", ("taro@example.com",)),
    )  # fmt: skip
    answer = resolve(view, parse_address(address))
    assert [target.address for target in answer.targets] == rcpts if isinstance(answer, Accept) else not rcpts


def test_limit_and_depth_ask_the_sender_to_wait() -> None:
    many = Alias("many@example.com", tuple(f"p{i}@other.example" for i in range(5)))
    answer = resolve(book(many), parse_address("many@example.com"), limit=4)
    assert isinstance(answer, Refuse) and (answer.failure.code, answer.failure.enhanced) == (451, "4.3.5")
    assert len(where(resolve(book(many), parse_address("many@example.com"), limit=5))) == 5
    chain = [Alias(f"a{i}@example.com", (f"a{i + 1}@example.com",)) for i in range(DEPTH + 1)]
    deep = book(*chain, account(f"a{DEPTH + 1}@example.com"))
    answer = resolve(deep, parse_address("a0@example.com"))
    assert isinstance(answer, Refuse) and answer.failure.enhanced == "4.3.5"
    assert where(resolve(deep, parse_address("a1@example.com"))) == [f"a{DEPTH + 1}@example.com"]


def test_canonical() -> None:
    assert canonical(VIEW, Address('"a..b"', "EXAMPLE.co.jp")) == Address("a..b", "example.com")
    assert canonical(VIEW, Address('"a..b"', "other.example")) == Address('"a..b"', "other.example")


NAMES = st.sampled_from(["a", "b", "c", "d", "e", "A", "b+t", '"c"', "postmaster", "zz"])
DOMAINS = st.sampled_from(["example.com", "example.co.jp", "Example.COM.", "other.example"])
ADDRESSES = st.builds("{}@{}".format, NAMES, DOMAINS)
ROWS = st.one_of(
    st.builds(
        lambda name, to, keep, on: account(f"{name}@example.com", *to, keep=keep, enabled=on),
        st.sampled_from("abc"),
        st.lists(ADDRESSES, max_size=3),
        st.booleans(),
        st.booleans(),
    ),
    st.builds(
        lambda name, to: Alias(f"{name}@example.com", tuple(to)),
        st.sampled_from(["a", "b", "c", "d", "e", "", "postmaster"]),
        st.lists(ADDRESSES, max_size=4),
    ),
)


@settings(max_examples=300, deadline=None)
@given(rows=st.lists(ROWS, max_size=8), address=ADDRESSES, allow=st.booleans(), limit=st.integers(1, 6))
def test_every_directory(rows: list[Account | Alias], address: str, allow: bool, limit: int) -> None:
    answer = resolve(book(*rows), parse_address(address), allow_outside=allow, limit=limit)
    if isinstance(answer, Refuse):
        return
    locals_ = [target.account for target in answer.targets if target.is_local]
    outside = [target.address for target in answer.targets if not target.is_local]
    assert 1 <= len(answer.targets) <= limit
    assert len(set(locals_)) == len(locals_)
    assert len(set(outside)) == len(outside)
    assert all("other.example" in target for target in outside), "an address of the domain never leaves it"
    assert [found.address for found in answer.accounts] == locals_
    assert all(found.enabled for found in answer.accounts)


def test_an_account_reached_with_and_without_a_tag_is_one() -> None:
    answer = resolve(VIEW, parse_address("all@example.com"))
    assert isinstance(answer, Accept)
    assert [found.address for found in answer.accounts] == ["taro@example.com", "boss@example.com", "away@example.com"]
