"""The contract of links against real servers, each kind as it is really run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from onedomain.model.replica import Numbering
from onedomain.model.server import LoginWay, Server
from tests.backend.contract import local
from tests.backend.link.contract import Case, Contract, only
from tests.backend.test_real import ACL


def dovecot_server(lab: Any, name: str = "mail1", kind: str = "dovecot", *, doveadm: bool = True) -> Server:
    return Server(
        name, kind, local(lab.imap_port), local(lab.lmtp_port), login_way=LoginWay.MASTER,
        master_user=lab.master_user, master_password=lab.master_password,
        doveadm=local(lab.doveadm_http_port) if doveadm else None, doveadm_key=lab.api_key if doveadm else "",
    )  # fmt: skip


@pytest.mark.real
class TestDovecot(Contract):
    @pytest.fixture
    def case(self, start_dovecot: Callable[..., Any]) -> Case:
        lab = start_dovecot(plugins=ACL)
        return Case(lab, dovecot_server(lab), Numbering.RAISED)


@pytest.mark.real
class TestDovecotWithoutDoveadm(Contract):
    @pytest.fixture
    def case(self, request: pytest.FixtureRequest, start_dovecot: Callable[..., Any]) -> Case:
        only(request, {"test_what_it_can_do", "test_folders_come_and_go", "test_appended_as_it_was", "test_a_gap"})
        lab = start_dovecot(plugins=ACL, format="maildir")
        return Case(lab, dovecot_server(lab, doveadm=False), Numbering.BURNED, sets_uidvalidity=False)


PREFIXED = """\
namespace inbox {
  separator = .
  prefix = INBOX.
}
"""


@pytest.mark.real
class TestGeneric(Contract):
    """Dovecot without anything said about what it is, and its folders below INBOX."""

    @pytest.fixture
    def case(self, start_dovecot: Callable[..., Any]) -> Case:
        lab = start_dovecot(plugins=ACL, format="maildir", extra=PREFIXED)
        server = dovecot_server(lab, kind="imap", doveadm=False)
        return Case(lab, server, Numbering.BURNED, sets_uidvalidity=False, identity=False, separator=".",
                    prefix="INBOX.")


@pytest.mark.real
class TestPlain(Contract):
    """IMAP4rev1 and nothing else."""

    @pytest.fixture
    def case(self, start_dovecot: Callable[..., Any]) -> Case:
        lab = start_dovecot(plugins=ACL, extra="protocol imap {\n  imap_capability = IMAP4rev1\n}\n")
        server = dovecot_server(lab, kind="imap", doveadm=False)
        return Case(lab, server, Numbering.BURNED, sets_uidvalidity=False, identity=False, changes=False,
                    names_uids=False)
