"""Runners at work on a store, and a network that fails them: every rollout is done, and none is counted twice."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

import pytest
from _pytest.mark.structures import ParameterSet

from tests.real_time.marks import chiefly_on
from tests.real_time.remote.cluster import Cluster, open_cluster
from tests.real_time.remote.hosts import WORK
from tests.real_time.remote.networks import Host, Networks
from tests.real_time.remote.proxy import Proxy

RECOVERY = 3.0
"""Seconds from the network's healing to work that is done; an idle machine takes no more than two."""


def stress(*args: float) -> list[ParameterSet]:
    """Return what is only tried under `-m stress`."""
    return [pytest.param(arg, marks=[pytest.mark.stress, pytest.mark.timeout(600)]) for arg in args]


@contextmanager
def proxied(backend: str) -> Generator[tuple[Cluster, Proxy]]:
    """Give a cluster whose runners reach the store through a proxy."""
    proxies: list[Proxy] = []

    def through(address: str) -> str:
        port = int(address.rpartition(":")[2])
        proxies.append(Proxy(port))
        return f"grpc://127.0.0.1:{proxies[0].port}"

    try:
        with open_cluster(backend, "grpc://127.0.0.1:0", through) as cluster:
            yield cluster, proxies[0]
    finally:
        for proxy in proxies:
            proxy.close()


def trouble(cluster: Cluster, begin: Callable[[], object], end: Callable[[], object], seconds: float) -> None:
    """Have a trouble for so long, in the midst of work; work must be done again soon after its end."""
    time.sleep(0.2)
    begin()
    time.sleep(seconds)
    end()
    assert cluster.works(after=time.monotonic(), within=RECOVERY + 30) <= RECOVERY


def check(cluster: Cluster) -> None:
    """Let everything be finished: each rollout was done, and acknowledged once."""
    summary = cluster.finish()
    everything = summary["rollouts"]
    assert everything > WORK
    assert summary["statuses"] == {"succeeded": everything}
    assert summary["acknowledged"] == {"1": everything}


WAYS: list[list[Host]] = [["near", "far"], ["near"], ["far"]]


@chiefly_on("asyncio", "backend")
@pytest.mark.parametrize("seconds", [1.0, *stress(2.0, 10.0, 60.0)])
def test_partition_of_the_network(backend: str, networks: Networks, seconds: float) -> None:
    with open_cluster(
        backend,
        f"grpc://{networks.address('far')}:4747",
        on_store=networks.command("far"),
        on_runners=networks.command("near"),
    ) as cluster:
        for ways in WAYS:
            trouble(cluster, lambda ways=ways: networks.cut(*ways), networks.heal, seconds)  # type: ignore[misc]
        check(cluster)


@chiefly_on("trio", "backend")
@pytest.mark.parametrize("seconds", [1.0, *stress(2.0, 10.0, 60.0)])
def test_partition_by_a_proxy(backend: str, seconds: float) -> None:
    with proxied(backend) as (cluster, proxy):
        trouble(cluster, proxy.cut, proxy.heal, seconds)
        trouble(cluster, lambda: proxy.cut("up"), proxy.heal, seconds)
        trouble(cluster, lambda: proxy.cut("down"), proxy.heal, seconds)
        trouble(cluster, proxy.freeze, proxy.thaw, seconds)
        check(cluster)


@chiefly_on("asyncio", "backend")
@pytest.mark.parametrize("times", [5, *stress(200)])
def test_connections_that_are_reset(backend: str, times: int) -> None:
    with proxied(backend) as (cluster, proxy):
        for _ in range(times):
            trouble(cluster, proxy.reset, lambda: None, 0)
        check(cluster)
        assert proxy.accepted > times


@chiefly_on("trio", "backend")
@pytest.mark.parametrize("seconds", [0.05, *stress(0.5)])
def test_network_that_is_slow(backend: str, seconds: float) -> None:
    with proxied(backend) as (cluster, proxy):
        proxy.delay(seconds)
        time.sleep(2)
        cluster.works(after=time.monotonic(), within=10 * seconds + 2)
        proxy.heal()
        check(cluster)
        assert proxy.accepted == 1, "a slow network is no lost one"


@chiefly_on("asyncio", "backend")
@pytest.mark.parametrize("seconds", [3.0, *stress(30.0)])
def test_store_that_stands_still(backend: str, seconds: float) -> None:
    with open_cluster(backend, "grpc://127.0.0.1:0") as cluster:
        process = cluster.store.process
        trouble(
            cluster,
            lambda: process.send_signal(signal.SIGSTOP),
            lambda: process.send_signal(signal.SIGCONT),
            seconds,
        )
        check(cluster)
