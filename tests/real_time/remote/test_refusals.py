"""Who connects and may not hears why, and what to do; nothing is said to them that they could use."""

from __future__ import annotations

from pathlib import Path

import pytest

import lightactors as la
from lightactors.errors import AccessDenied, ConfigurationError, ConnectFailed
from lightactors.security import TOKEN_FILE, Tls, Tokens
from tests.remote.certificates import Authority

TOKENS = Tokens.new()
STRANGER = Tokens.new().of("runner")


@la.actor
class Counter:
    def __init__(self) -> None:
        self.value = 0

    @la.handler
    def add(self, amount: int) -> int:
        self.value += amount
        return self.value


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


async def add_with(address: str, token: str | Path | None = None, tls: Tls | None = None) -> int:
    """Connect from a system of its own, as another process would, and add 1."""
    async with la.open_system("caller"):
        counter = await la.connect(Counter, f"{address}/counter", token=token, tls=tls)
        return await counter.add(1)


async def test_wrong_token_is_never_taken_for_anything_else() -> None:
    async with la.open_system(listen="grpc://127.0.0.1:0", tokens=TOKENS) as system:
        counter = await la.options(name="counter").spawn(Counter)
        for _ in range(100):
            with pytest.raises(AccessDenied, match="valid token"):
                await add_with(system.addresses[0], STRANGER)
        assert await counter.add(0) == 0


async def test_token_comes_from_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    TOKENS.save(tmp_path / "tokens")
    async with la.open_system(listen="grpc://127.0.0.1:0", tokens=TOKENS) as system:
        await la.options(name="counter").spawn(Counter)
        with pytest.raises(AccessDenied):
            await add_with(system.addresses[0])
        monkeypatch.setenv(TOKEN_FILE, str(tmp_path / "tokens"))
        assert await add_with(system.addresses[0]) == 1
        (tmp_path / "tokens").chmod(0o644)
        with pytest.raises(ConfigurationError, match="chmod 600"):
            await add_with(system.addresses[0])


async def test_tls_and_a_token_let_in_and_nothing_less(authority: Authority, tmp_path: Path) -> None:
    server, stranger = authority.sign("server"), Authority(tmp_path, "other")
    async with la.open_system(listen="grpcs://127.0.0.1:0", tls=server, tokens=TOKENS) as system:
        counter = await la.options(name="counter").spawn(Counter)
        address = system.addresses[0]
        known, runner = Tls(ca=authority.ca), TOKENS.of("runner")
        assert await add_with(address, runner, known) == 1
        with pytest.raises(AccessDenied):
            await add_with(address, None, known)
        with pytest.raises(AccessDenied):
            await add_with(address, STRANGER, known)
        with pytest.raises(ConnectFailed, match="trust"):
            await add_with(address, runner, Tls(ca=stranger.ca))
        with pytest.raises(ConnectFailed, match="trust"):
            await add_with(address, runner)
        with pytest.raises(ConnectFailed):
            await add_with(address.replace("grpcs", "grpc"), runner)
        assert await counter.add(0) == 1


async def test_mutual_tls_lets_in_whom_its_authority_knows(authority: Authority, tmp_path: Path) -> None:
    server, client = authority.sign("server"), authority.sign("client")
    stranger = Authority(tmp_path, "other").sign("stranger")
    mutual = Tls(authority.ca, server.cert, server.key)
    async with la.open_system(listen="grpcs://127.0.0.1:0", tls=mutual, tokens=TOKENS) as system:
        counter = await la.options(name="counter").spawn(Counter)
        address, runner = system.addresses[0], TOKENS.of("runner")
        assert await add_with(address, runner, Tls(authority.ca, client.cert, client.key)) == 1
        for tls in (Tls(ca=authority.ca), Tls(authority.ca, stranger.cert, stranger.key)):
            with pytest.raises(ConnectFailed):
                await add_with(address, runner, tls)
        assert await counter.add(0) == 1


@pytest.mark.parametrize("address", ["grpc://0.0.0.0:0", "grpc://[::]:0"])
async def test_a_network_is_not_listened_to_by_mistake(address: str, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ConfigurationError, match="insecure=True"):
        async with la.open_system(listen=address):
            pass
    async with la.open_system(listen=address, insecure=True):
        assert "INSECURE" in caplog.text
