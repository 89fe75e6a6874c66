"""A store that demands TLS, certificates and tokens, and who comes in."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from lightactors.cli.exits import Exit
from lightactors.contract import Role
from lightactors.security import Tokens
from tests.real_time.cli.command import lightactors, refusal, running
from tests.remote.certificates import Authority


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    (folder / "agents.py").write_text("def answer(task): return 1.0\n")
    authority = Authority(folder)
    authority.sign("host")
    authority.sign("guest")
    return folder


@pytest.fixture(scope="module")
def secured(project: Path) -> Iterator[str]:
    listen = ["store", "--listen", "grpcs://localhost:0", "--token-file", "tokens"]
    keys = ["--tls-cert", "host.pem", "--tls-key", "host.key", "--tls-ca", "ca.pem"]
    with running(*listen, *keys, cwd=project) as store:
        yield store.says(r"^  (grpcs://localhost:\d+)$")[1]


@pytest.fixture
def keys() -> list[str]:
    return ["--tls-ca", "ca.pem", "--tls-cert", "guest.pem", "--tls-key", "guest.key"]


def token(project: Path, role: Role) -> list[str]:
    text = Tokens.load(project / "tokens").of(role)
    (project / role).write_text(text)
    (project / role).chmod(0o600)
    return ["--token-file", role]


def test_tokens_are_made_for_their_owner_alone(secured: str, project: Path) -> None:
    assert stat.S_IMODE((project / "tokens").stat().st_mode) == 0o600
    assert sorted(Tokens.load(project / "tokens").roles) == ["admin", "algorithm", "runner", "viewer"]


def test_who_has_keys_and_a_token_comes_in(secured: str, keys: list[str], project: Path) -> None:
    viewer = token(project, "viewer")
    assert lightactors("status", secured, *keys, *viewer, cwd=project).returncode == Exit.OK
    line = refusal(lightactors("stop", secured, *keys, *viewer, cwd=project), Exit.DENIED)
    assert line == f"a viewer may not stop store at {secured}; give an admin's --token-file"

    runner = ["runner", "--store", secured, "--agent", "agents:answer", *keys]
    line = refusal(lightactors(*runner, *viewer, cwd=project), Exit.DENIED)
    assert line == "a viewer may not run rollouts; give a runner's --token-file"
    with running(*runner, *token(project, "runner"), cwd=project) as command:
        command.says("runs agents:answer")
        assert command.stop() == Exit.OK

    admin = token(project, "admin")
    assert lightactors("stop", secured, "meeting", *keys, *admin, cwd=project).returncode == Exit.OK


def test_without_a_token(secured: str, keys: list[str], project: Path) -> None:
    line = refusal(lightactors("status", secured, *keys, cwd=project), Exit.DENIED)
    assert line == f"{secured} asks for a token; give --token-file FILE"


def test_with_a_token_of_another_store(secured: str, keys: list[str], project: Path) -> None:
    Tokens.new(["runner"]).save(project / "other")
    done = lightactors("status", secured, *keys, "--token-file", "other", cwd=project)
    assert refusal(done, Exit.DENIED).startswith(f"{secured} does not accept the token of other;")


def test_without_our_certificate(secured: str, project: Path) -> None:
    refusal(
        lightactors("status", secured, "--tls-ca", "ca.pem", "--token-file", "tokens", cwd=project),
        Exit.UNREACHABLE,
    )


def test_of_an_authority_that_we_do_not_know(secured: str, project: Path) -> None:
    (project / "theirs").mkdir()
    Authority(project / "theirs")
    done = lightactors("status", secured, "--tls-ca", "theirs/ca.pem", "--token-file", "tokens", cwd=project)
    assert "certificate" in refusal(done, Exit.UNREACHABLE).lower()


def test_without_tls(secured: str, project: Path) -> None:
    plain = secured.replace("grpcs", "grpc")
    assert refusal(lightactors("status", plain, "--token-file", "tokens", cwd=project), Exit.UNREACHABLE)


def test_token_file_that_others_can_read(secured: str, keys: list[str], project: Path) -> None:
    (project / "open").write_text((project / "tokens").read_text())
    (project / "open").chmod(0o644)
    done = lightactors("status", secured, *keys, "--token-file", "open", cwd=project)
    assert "run `chmod 600 open`" in refusal(done, Exit.USAGE)
