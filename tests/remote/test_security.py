"""Tokens, token files, TLS files, and what may listen where."""

from __future__ import annotations

import copy
import os
import pickle
import stat
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from lightactors.address import Address
from lightactors.errors import ConfigurationError
from lightactors.security import ROLES, TOKEN_FILE, Tls, Tokens, check_connect, check_listen, read_token
from tests.remote.certificates import Authority, private_bytes

RUNNER = "runner." + "x" * 43
ADMIN = "admin." + "y" * 43


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tokens"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


def write(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def test_new_tokens_are_random_and_tell_their_role() -> None:
    one, other = Tokens.new(), Tokens.new()
    assert one.roles == ROLES
    for role in ROLES:
        assert one.of(role).startswith(f"{role}.")
        assert one.role_of(one.of(role)) == role
        assert one.role_of(other.of(role)) is None


@given(st.text() | st.from_regex(r"(runner|admin)\.[A-Za-z0-9_-]{42,44}", fullmatch=True))
def test_any_other_text_has_no_role(text: str) -> None:
    assert Tokens([RUNNER, ADMIN]).role_of(text) is None or text in (RUNNER, ADMIN)


def test_role_of_a_token_is_not_what_it_says_but_what_it_is() -> None:
    assert Tokens([RUNNER]).role_of("admin." + "x" * 43) is None
    assert Tokens([RUNNER]).role_of("\udcff") is None


def test_tokens_come_back_from_their_file(file: Path) -> None:
    tokens = Tokens.new(["viewer", "admin"])
    before = os.umask(0)
    try:
        tokens.save(file)
    finally:
        os.umask(before)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in file.parent.iterdir()] == ["tokens"]
    loaded = Tokens.load(str(file))
    assert loaded.roles == ("viewer", "admin")
    assert loaded.of("admin") == tokens.of("admin")


def test_save_replaces_nothing(file: Path) -> None:
    file.write_text("mine")
    with pytest.raises(ConfigurationError, match="exists already"):
        Tokens.new().save(file)
    assert file.read_text() == "mine"
    assert len(list(file.parent.iterdir())) == 1


def test_save_follows_no_link(file: Path) -> None:
    file.symlink_to(file.parent / "elsewhere")
    with pytest.raises(ConfigurationError, match="exists already"):
        Tokens.new().save(file)
    assert not (file.parent / "elsewhere").exists()


def test_save_names_a_place_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file"):
        Tokens.new().save(tmp_path / "none" / "tokens")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o666])
def test_file_that_others_can_read_is_refused(file: Path, mode: int) -> None:
    write(file, RUNNER, mode)
    with pytest.raises(ConfigurationError, match=f"chmod 600 {file}"):
        Tokens.load(file)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_file_of_somebody_else_is_refused(file: Path) -> None:
    os.chown(write(file, RUNNER), 1234, -1)
    with pytest.raises(ConfigurationError, match="belongs to user 1234"):
        Tokens.load(file)


WRONG = {
    "": "there is none",
    "\n \n": "there is none",
    "secret": "number 1 is no token",
    f"{RUNNER}\nsecret": "number 2 is no token",
    f"{RUNNER}secret": "number 1 is no token",
    "boss." + "x" * 43: "number 1 is no token",
    f"{RUNNER}\n{RUNNER}": "two for role 'runner'",
    f"{RUNNER}\nadmin.{'x' * 43}": "share one secret",
    "\xff": "no token file",
    RUNNER + "\n" * 5000: "no token file",
}


@pytest.mark.parametrize("text", WRONG)
def test_wrong_token_files_are_told_without_their_secrets(file: Path, text: str) -> None:
    write(file, text)
    with pytest.raises(ConfigurationError, match=WRONG[text]) as raised:
        Tokens.load(file)
    assert str(file) in str(raised.value)
    assert "xxx" not in str(raised.value)
    assert "secret" not in str(raised.value).replace("share one secret", "")


def test_what_is_no_file_is_no_token_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(ConfigurationError, match="no regular file"):
        Tokens.load(tmp_path / "pipe")
    with pytest.raises(ConfigurationError, match="no regular file"):
        Tokens.load(tmp_path)
    with pytest.raises(ConfigurationError, match="No such file"):
        Tokens.load(tmp_path / "none")


def test_tokens_show_roles_only_and_never_travel() -> None:
    tokens = Tokens([RUNNER, ADMIN])
    assert repr(tokens) == str(tokens) == "<Tokens for runner, admin>"
    for copier in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="never pickled"):
            copier(tokens)


def test_roles_that_are_none() -> None:
    wrong: Any = ["boss"]
    with pytest.raises(ConfigurationError, match="'boss' is no role"):
        Tokens.new(wrong)
    with pytest.raises(ConfigurationError, match="there is none"):
        Tokens.new([])
    with pytest.raises(ConfigurationError, match="no token for role 'admin', only for runner"):
        Tokens([RUNNER]).of("admin")


def test_token_is_read_from_wherever_it_is(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOKEN_FILE, raising=False)
    write(file, f"{RUNNER}\r\n\n{ADMIN}\n")
    assert read_token() is None
    assert read_token(RUNNER) == RUNNER
    assert read_token(file) == RUNNER
    assert read_token(file, role="admin") == ADMIN
    monkeypatch.setenv(TOKEN_FILE, str(file))
    assert read_token() == RUNNER
    assert read_token(role="admin") == ADMIN
    with pytest.raises(ConfigurationError, match="no token for role 'viewer'"):
        read_token(role="viewer")


def test_text_that_is_no_token_is_not_shown() -> None:
    with pytest.raises(ConfigurationError, match=r"pathlib\.Path") as raised:
        read_token("/run/secret")
    assert "/run/secret" not in str(raised.value)


def test_tls_files_that_are_right(authority: Authority) -> None:
    tls = authority.sign("server")
    assert Tls(authority.ca, tls.cert, tls.key).read("ca")
    assert "BEGIN" not in repr(tls)
    assert Tls().read("ca") is None


def test_wrong_tls_files_are_told_at_once(authority: Authority, tmp_path: Path) -> None:
    one, other = authority.sign("one"), authority.sign("other")
    text = write(tmp_path / "text", "hello")
    sealed = tmp_path / "sealed"
    sealed.write_bytes(private_bytes(ec.generate_private_key(ec.SECP256R1()), b"password"))
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"cert": one.cert}, "has no key"),
        ({"key": one.key}, "has no cert"),
        ({"ca": tmp_path / "none"}, "No such file"),
        ({"ca": tmp_path}, "directory"),
        ({"ca": "a\0b"}, "null"),
        ({"ca": text}, "can't be used"),
        ({"ca": one.key}, "can't be used"),
        ({"ca": b"-----BEGIN"}, "give the path"),
        ({"cert": text, "key": one.key}, "can't be used"),
        ({"cert": one.cert, "key": other.key}, "can't be used"),
        ({"cert": one.cert, "key": sealed}, "password"),
    ]
    for files, reason in wrong:
        with pytest.raises(ConfigurationError, match=reason):
            Tls(**files)


TOKENS = Tokens.new()


@pytest.mark.parametrize("text", ["unix:x.sock", "grpc://127.0.0.1:0", "grpc://localhost", "grpc://[::1]"])
def test_this_machine_needs_no_secrets(text: str) -> None:
    check_listen(Address.parse(text), None, None)


@pytest.mark.parametrize("text", ["grpc://0.0.0.0", "grpc://10.0.0.1", "grpc://host"])
def test_a_network_needs_tls_and_tokens(text: str, caplog: pytest.LogCaptureFixture) -> None:
    for tokens, missing in ((None, "TLS .* and tokens"), (TOKENS, "TLS")):
        with pytest.raises(ConfigurationError, match=missing):
            check_listen(Address.parse(text), None, tokens)
        assert not caplog.records
        check_listen(Address.parse(text), None, tokens, insecure=True)
        assert "INSECURE" in caplog.text
        caplog.clear()


def test_tls_alone_is_not_enough(authority: Authority, caplog: pytest.LogCaptureFixture) -> None:
    tls = authority.sign("server")
    everywhere = Address.parse("grpcs://0.0.0.0")
    with pytest.raises(ConfigurationError, match="needs tokens"):
        check_listen(everywhere, tls, None)
    check_listen(everywhere, tls, TOKENS)
    assert not caplog.records


def test_tls_that_would_not_be_used_is_told_of(authority: Authority) -> None:
    tls = authority.sign("server")
    for check in (check_listen, check_connect):
        with pytest.raises(ConfigurationError, match="say 'grpcs://localhost:1/x'"):
            check(Address.parse("grpc://localhost:1/x"), tls, None)


@pytest.mark.parametrize("insecure", [False, True])
def test_tls_needs_a_certificate_to_listen_with(authority: Authority, insecure: bool) -> None:
    for tls in (None, Tls(ca=authority.ca)):
        with pytest.raises(ConfigurationError, match="needs a certificate"):
            check_listen(Address.parse("grpcs://localhost"), tls, TOKENS, insecure=insecure)


def test_token_in_plain_text_on_a_network_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    for text in ("unix:x.sock", "grpc://localhost", "grpcs://host"):
        check_connect(Address.parse(text), None, RUNNER)
    check_connect(Address.parse("grpc://host"), None, None)
    assert not caplog.records
    check_connect(Address.parse("grpc://host"), None, RUNNER)
    assert "plain text" in caplog.text
    assert RUNNER not in caplog.text


def test_nobody_listens_at_port_0() -> None:
    with pytest.raises(ConfigurationError, match="port 0 is for listening"):
        check_connect(Address.parse("grpc://localhost:0"), None, None)
