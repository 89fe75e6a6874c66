"""What the options say about how a node is reached, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from lightactors.cli.access import access
from lightactors.cli.exits import CommandError
from lightactors.contract import Role
from lightactors.errors import ConfigurationError
from lightactors.security import Tokens

NODE = "grpc://127.0.0.1:4747"


def token(file: Path | None, role: Role = "runner") -> str | None:
    return access(NODE, role, file, None, None, None).token()


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    Tokens.new().save(tmp_path / "tokens")
    return tmp_path / "tokens"


def test_without_a_file_there_is_no_token() -> None:
    assert token(None) is None


@pytest.mark.parametrize("role", ["runner", "viewer", "admin"])
def test_of_a_file_with_all_tokens_the_one_for_the_role_is_taken(tokens: Path, role: Role) -> None:
    assert token(tokens, role) == Tokens.load(tokens).of(role)


def test_token_of_another_role_is_tried(tmp_path: Path) -> None:
    Tokens.new(["runner"]).save(tmp_path / "token")
    assert str(token(tmp_path / "token", "admin")).startswith("runner.")


def test_missing_file_is_told_before_anything_is_dialled(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"there is no token file .*/none; put the runner's line of .* into one"):
        token(tmp_path / "none")


def test_file_that_others_can_read_is_refused(tokens: Path) -> None:
    tokens.chmod(0o644)
    with pytest.raises(ConfigurationError, match="run `chmod 600"):
        token(tokens)


def test_address_of_an_actor_is_no_node() -> None:
    with pytest.raises(CommandError, match=rf"/store names an actor; give the node, {NODE}"):
        access(f"{NODE}/store", "viewer", None, None, None, None)


@pytest.mark.parametrize(
    ("address", "cure"),
    [
        ("localhost:4747", "say 'grpc://localhost:4747'"),
        ("http://localhost:4747", "say 'grpc://localhost:4747'"),
        ("grpc://localhost:47x47", "'47x47' is no port"),
        ("/run/me.sock", "say 'unix:/run/me.sock'"),
    ],
)
def test_wrong_addresses_say_what_to_write(address: str, cure: str) -> None:
    with pytest.raises(ConfigurationError, match=cure):
        access(address, "viewer", None, None, None, None)


def test_where_a_store_is_kept_is_no_node(tmp_path: Path) -> None:
    (tmp_path / "run.db").touch()
    for given, shown in (
        (f"{tmp_path}/run.db", f"{tmp_path}/run.db"),
        ("sqlite:///run.db", "sqlite://..."),
        ("postgresql://me:secret@host/name", "postgresql://..."),
    ):
        with pytest.raises(CommandError) as refused:
            access(given, "runner", None, None, None, None)
        assert str(refused.value).startswith(f"{shown} is where a store is kept, and not where it is served; serve it")
