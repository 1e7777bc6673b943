"""The contract against real servers, each kind as it is really run."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from onedomain.model.server import LoginWay, Server
from tests.backend.contract import Case, Contract, bodies, deliver, local, message
from tests.backend.node_lab import Node, make_account

ACL = "  acl_user = %u\n"
"""Without it a master user sees nothing of a user's folders where the acl plugin is on."""

NAMES = [f"{name}@example.com" for name in ("hanako", "taro", "jiro", "probe")]
PROBE = ("probe@example.com",)


@pytest.mark.real
class TestDovecot(Contract):
    @pytest.fixture
    def case(self, start_dovecot: Callable[..., Any]) -> Case:
        lab = start_dovecot(plugins=ACL)
        server = Server(
            "mail1", "dovecot", local(lab.imap_port), local(lab.lmtp_port), login_way=LoginWay.MASTER,
            master_user=lab.master_user, master_password=lab.master_password, probe_accounts=PROBE,
        )  # fmt: skip
        return Case(lab, server, b"Saved")


@pytest.mark.real
class TestCyrus(Contract):
    @pytest.fixture
    def case(self, start_cyrus: Callable[..., Any]) -> Case:
        lab = start_cyrus(users=dict.fromkeys(NAMES, "secret"))
        server = Server(
            "mail1", "cyrus", local(lab.imap_port), local(lab.lmtp_port), login_way=LoginWay.AUTHZID,
            master_user=lab.proxy, master_password=lab.proxy_password, probe_accounts=PROBE,
        )  # fmt: skip
        return Case(lab, server, b"Success SESSIONID")

    async def test_what_it_drops_is_seen_also_from_one_second_to_the_next(
        self, start_cyrus: Callable[..., Any], case: Case, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A message without a date has Cyrus's own, by which it tells two of one Message-ID apart."""
        lab = start_cyrus(duplicatesuppression=True)
        place = {"imap": local(lab.imap_port), "delivery": local(lab.lmtp_port)}
        backend = case.backend(**place, master_user=lab.proxy, master_password=lab.proxy_password)
        deliver = backend.deliver

        async def slowly(*what: Any) -> Any:
            answer = await deliver(*what)
            await asyncio.sleep(1.1)
            return answer

        monkeypatch.setattr(backend, "deliver", slowly)
        manners = await backend.manners(PROBE[0])
        assert manners is not None and manners.suppresses
        await backend.close()


@pytest.mark.real
class TestGeneric(Contract):
    """Dovecot without anything said about what it is; a user's password has to do for the probe."""

    @pytest.fixture
    def case(self, start_dovecot: Callable[..., Any]) -> Case:
        lab = start_dovecot(format="maildir", plugins=ACL)
        server = Server(
            "mail1", "imap", local(lab.imap_port), local(lab.lmtp_port), login_way=LoginWay.MASTER,
            master_user=lab.master_user, master_password=lab.master_password,
            probe_accounts=PROBE, probe_password="secret",
        )  # fmt: skip
        return Case(lab, server, b"Saved")


@pytest.fixture(scope="session")
def node_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a node keeps, with one account in it."""
    data = tmp_path_factory.mktemp("node") / "data"
    make_account(data, "hanako@example.com")
    return data


class TestNode(Contract):
    @pytest.fixture
    def case(self, lab_folder: Path, node_data: Path) -> Iterator[Case]:
        shutil.copytree(node_data, lab_folder / "data")
        lab = Node(lab_folder)
        lab.start()
        server = Server(
            "mail1", "node", local(lab.imap_port), local(lab.lmtp_port), login_way=LoginWay.AUTHZID,
            master_user=lab.proxy, master_password=lab.proxy_password, probe_accounts=PROBE,
        )  # fmt: skip
        yield Case(lab, server, b"stored")
        lab.kill()

    async def test_an_id_it_has_is_taken_and_not_kept_again(self, case: Case) -> None:
        backend = case.backend()
        again = message(backend)
        for _ in range(3):
            await deliver(backend, again)
        assert len(bodies(case)) == 1
        await backend.close()
