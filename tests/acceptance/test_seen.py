"""What an operator sees of replicas: lag, what is not covered and since when, links that do not run and why, failovers,
in `status`, `link list`, `trace` and metrics; and what is told without being asked for, by mail and to a webhook.
"""

from __future__ import annotations

import json
import re
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.acceptance.cluster import Cluster, control
from tests.acceptance.test_links import all_whole, await_whole, pairs, send
from tests.app.test_alerts import Hook
from tests.lab.process import wait_until

LATE = 2


@pytest.fixture
def hook() -> Iterator[Hook]:
    with Hook() as hook:
        yield hook


def told(hook: Hook) -> list[str]:
    return [alert["text"] for _, content in hook.posts for alert in content["alerts"]]


def metric(cluster: Cluster, name: str, **labels: str) -> float | None:
    """One number of the edge's page."""
    url = f"http://{cluster.edge.host}:{cluster.edge.metrics_port}/metrics"
    with urllib.request.urlopen(url, timeout=10) as answer:
        page = answer.read().decode()
    for line in page.splitlines():
        found = re.fullmatch(rf"onedomain_{name}(?:\{{(.*)\}})? (\S+)", line)
        if found and all(f'{key}="{value}"' in (found[1] or "") for key, value in labels.items()):
            return float(found[2])
    return None


def post_of(cluster: Cluster, account: str) -> list[str]:
    return [text.decode() for text in cluster.messages(account) if b"From: OneDomain" in text]


def events(cluster: Cluster, needle: str) -> list[dict[str, Any]]:
    return list(json.loads(cluster.edge.run("trace", needle, "--json"))["events"])


def test_replicas_are_seen_and_told_of(
    make_cluster: Callable[..., Cluster], make_home: Callable[..., Any], hook: Hook
) -> None:
    alerts = {"webhook": hook.url, "every": 1, "late": LATE}
    cluster = make_cluster(
        make_home("node", "a"), make_home("node", "b"), lives=["a"], replicas={"a": "b"}, people=2,
        extra={"alerts": alerts, "failover": {"automatic": True}})  # fmt: skip
    ann, bob = cluster.people
    cluster.change("alias", "add", "postmaster@example.com", bob)
    pair = {"source": "a", "target": "b"}

    send(cluster, ann, text="one")
    cluster.await_quiet()
    await_whole(cluster)
    wait_until(lambda: pairs(cluster)[0]["lag"] is not None, "a lag", 10)
    [shown] = pairs(cluster)
    assert 0 < shown["lag"] < 2 and shown["uncovered_for"] is None and not shown["reasons"]
    wait_until(lambda: metric(cluster, "link_lag_seconds", **pair), "the lag in metrics", 10)
    assert metric(cluster, "links", state="whole", **pair) == 2
    assert metric(cluster, "link_uncovered", **pair) == 0
    assert any(event["event"] == "link pass" for event in events(cluster, ann))

    # The replica goes: what is not covered, since when, and why.
    cluster.homes["b"].lab.kill()
    began = time.time()
    send(cluster, ann, text="two")
    wait_until(lambda: pairs(cluster)[0]["uncovered"] and pairs(cluster)[0]["reasons"], "it is seen", 20)
    [shown] = pairs(cluster)
    assert 0 <= shown["uncovered_for"] <= time.time() - began + 0.5
    assert "b" in shown["reasons"][0]["reason"], shown
    [row] = [one for one in control(cluster.edge, "link_list", troubled=True) if one["account"] == ann]
    assert row["reason"] and row["uncovered"] == 1
    assert 0 < row["lag"] < 2, "of the message before"
    assert ann in cluster.edge.run("link", "list", "--troubled")
    wait_until(lambda: metric(cluster, "link_uncovered", **pair), "in metrics", 10)
    wait_until(lambda: metric(cluster, "links", state="whole", **pair) != 2, "in metrics", 10)
    wait_until(lambda: metric(cluster, "links_stopped", reason="server", **pair) == 2, "why, in metrics", 10)
    wait_until(lambda: any(text.startswith("copies of a on b are behind: ") for text in told(hook)), "told", 30)
    wait_until(lambda: any(text.startswith("server b is ") for text in told(hook)), "told", 40)
    wait_until(lambda: any("copies of a on b are behind" in text for text in post_of(cluster, bob)), "a mail", 30)

    cluster.homes["b"].lab.start()
    wait_until(lambda: all_whole(cluster), "covered again", 30)
    wait_until(lambda: metric(cluster, "links", state="whole", **pair) == 2, "in metrics", 10)

    # The primary goes: a failover with its accounts, seen, counted, told, and traced.
    cluster.homes["a"].lab.kill()
    wait_until(lambda: control(cluster.edge, "failover")["recent"], "a failover", 30)
    [last] = control(cluster.edge, "failover")["recent"]
    assert (last["from"], last["to"], last["accounts"]) == ("a", "b", 2) and "a is " in last["cause"]
    assert last["at"] >= began
    wait_until(lambda: metric(cluster, "failover_accounts_total", **pair) == 2, "in metrics", 10)
    assert began <= (metric(cluster, "failover_last_timestamp_seconds", **pair) or 0) <= time.time()
    wait_until(lambda: (metric(cluster, "failover_unreturned") or 0) == 2, "in metrics", 10)
    screen = cluster.edge.run("status", check=False)
    assert last["cause"] in " ".join(screen.split())
    wait_until(lambda: any("2 account(s) of a go on at b" in text for text in told(hook)), "told", 40)
    wait_until(lambda: any(event["event"] == "promoted" for event in events(cluster, ann)), "traced", 30)
    cluster.homes["a"].lab.start()
    wait_until(lambda: metric(cluster, "failover_unreturned") == 0, "the return", 30)
    assert metric(cluster, "links", state="whole", **pair) is None, "a pair that is no more has no numbers"
