"""What a store asks of the addresses that it listens on, and what it tells who has started it."""

from __future__ import annotations

import socket
import stat
from pathlib import Path

import pytest

from lightactors.address import Address
from lightactors.cli.exits import CommandError
from lightactors.cli.serving import Serving, announcement, reachable, tokens_of
from lightactors.security import Tokens


def check(address: str, token_file: str | None = None, *, insecure: bool = False) -> None:
    file = None if token_file is None else Path(token_file)
    Serving([Address.parse(address)], tls=None, token_file=file, insecure=insecure, grace=1).check()


@pytest.mark.parametrize("address", ["grpc://127.0.0.1:0", "grpc://localhost:1", "unix:s"])
def test_this_host_needs_nothing(address: str) -> None:
    check(address)


def test_network_needs_tls_and_tokens() -> None:
    with pytest.raises(CommandError, match=r"needs TLS \(--listen grpcs://0.0.0.0:1 .*\) and tokens \(--token-file"):
        check("grpc://0.0.0.0:1")
    with pytest.raises(CommandError, match=r"needs TLS \(.*\); listen on 127.0.0.1"):
        check("grpc://0.0.0.0:1", "tokens")
    check("grpc://0.0.0.0:1", insecure=True)


def test_tls_needs_a_certificate() -> None:
    with pytest.raises(CommandError, match="needs a certificate; give --tls-cert and --tls-key"):
        check("grpcs://127.0.0.1:1")


def test_tokens_are_made_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "tokens"
    made = tokens_of(file)
    assert made is not None
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "made" in capsys.readouterr().err
    assert Tokens.load(file).role_of(made.of("runner")) == "runner"
    tokens_of(file)
    assert capsys.readouterr().err == ""


def test_announcement_says_how_to_join() -> None:
    text = "\n".join(announcement(["grpcs://host:1"], Path("my tokens"), None))
    join = "lightactors runner --store grpcs://host:1 --tls-ca CA.pem --token-file 'my tokens' --agent my_agents:answer"
    assert join in text
    assert "grep ^runner 'my tokens' > runner.token" in text


def test_who_listens_everywhere_is_reached_by_name() -> None:
    assert reachable("grpcs://0.0.0.0:1") == f"grpcs://{socket.gethostname()}:1"
    assert reachable("grpc://[::]:1") == f"grpc://{socket.gethostname()}:1"
    assert reachable("unix:/s") == "unix:/s"
