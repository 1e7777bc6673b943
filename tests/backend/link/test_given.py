"""The contract of links against servers that can be given UIDs: our node, and Cyrus over its administrator's log-in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from onedomain.model.replica import Numbering
from onedomain.model.server import LoginWay, Server
from tests.backend.contract import local
from tests.backend.link.contract import Case, Contract, only
from tests.lab.node import Node

REPLICATION = {"replication_user": "replica", "replication_password": "replicasecret"}
NAMES = {f"{name}@example.com": "secret" for name in ("hanako", "taro")}


def node_server(lab: Node, name: str = "mail1") -> Server:
    return Server(name, "node", local(lab.imap_port), local(lab.lmtp_port), **REPLICATION)  # type: ignore[arg-type]


def cyrus_server(lab: Any, name: str = "mail1", *, administrator: bool = True) -> Server:
    way = {"replication_user": lab.admin, "replication_password": lab.admin_password} if administrator else {}
    return Server(
        name, "cyrus", local(lab.imap_port), local(lab.lmtp_port), login_way=LoginWay.AUTHZID, master_user=lab.proxy,
        master_password=lab.proxy_password, **way,
    )  # fmt: skip


NAMES_ONLY = {"test_what_it_can_do", "test_folders_come_and_go", "test_names_that_are_hard_to_spell",
              "test_folders_below_folders_and_their_subscriptions", "test_appended_as_it_was"}
FALLBACK_ONLY = {"test_what_it_can_do", "test_lists_and_changes", "test_letters_are_the_bytes", "test_what_is_refused"}


class TestNode(Contract):
    @pytest.fixture
    def case(self, lab_folder: Path) -> Iterator[Case]:
        lab = Node(lab_folder, settings=REPLICATION)
        lab.start()
        yield Case(lab, node_server(lab), Numbering.GIVEN)
        lab.kill()


@pytest.mark.real
class TestCyrus(Contract):
    @pytest.fixture
    def case(self, start_cyrus: Callable[..., Any]) -> Case:
        lab = start_cyrus(users=NAMES, munge8bit=True)
        return Case(lab, cyrus_server(lab), Numbering.GIVEN, takes_nul=False, quotes=False)


@pytest.mark.real
class TestCyrusWithDots(Contract):
    """Its own names: INBOX.Lists, and everything below INBOX."""

    @pytest.fixture
    def case(self, request: pytest.FixtureRequest, start_cyrus: Callable[..., Any]) -> Case:
        only(request, NAMES_ONLY)
        lab = start_cyrus(users=NAMES, dots=True)
        server = cyrus_server(lab)
        return Case(lab, server, Numbering.GIVEN, takes_nul=False, separator=".", prefix="INBOX.", quotes=False)


@pytest.mark.real
class TestCyrusWithoutAdministrator(Contract):
    @pytest.fixture
    def case(self, request: pytest.FixtureRequest, start_cyrus: Callable[..., Any]) -> Case:
        only(request, FALLBACK_ONLY)
        lab = start_cyrus(users=NAMES, munge8bit=True)
        return Case(lab, cyrus_server(lab, administrator=False), Numbering.BURNED, sets_uidvalidity=False,
                    munges=True, takes_nul=False, quotes=False)
