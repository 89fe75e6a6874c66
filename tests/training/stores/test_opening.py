"""A store is given by its address, wherever one is taken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import lightactors as la
from lightactors.errors import ConfigurationError
from lightactors.training.stores.memory import MemoryStore
from lightactors.training.stores.opening import open_store, opened
from lightactors.training.stores.sql import DurableStore
from lightactors.training.stores.sql.locations import location_of


@pytest.mark.parametrize("address", ["memory", "memory://"])
def test_memory(address: str) -> None:
    assert isinstance(open_store(address), MemoryStore)


@pytest.mark.parametrize("address", ["run.db", "./run", "/tmp/run.db", "sqlite:///run.db", Path("run.db")])
def test_file(address: str | Path) -> None:
    store = opened(address)
    assert isinstance(store, DurableStore)
    trainer = la.Trainer(store=address)
    assert isinstance(trainer.store, DurableStore)


def test_store_is_itself() -> None:
    store = MemoryStore()
    assert opened(store) is store
    assert la.Trainer(store=store).store is store


@pytest.mark.parametrize("given", [MemoryStore, MemoryStore(), {"type": "memory"}, "lightactors:MemoryStore"])
def test_trainer_takes_stores_as_other_components(given: Any) -> None:
    assert isinstance(la.Trainer(store=given).store, MemoryStore)


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("memori", r"store='memori' is no address; for a file of that name write memori.db or ./memori"),
        ("sqlite:run.db", r"lacks slashes behind sqlite:; give a file such as run.db, sqlite:///run.db"),
        ("sqlite://run.db", r"names no file; write sqlite:///run.db"),
        ("mysql://host/db", r"there are no stores at mysql://; give a file such as run.db"),
        ("", r"store='' is no address"),
        (":memory:", r"a store in memory is store='memory'"),
        ("sqlite:///:memory:", r"a store in memory is store='memory'"),
        ("memory?keep=3", r"a store in memory is its program's alone, and takes no options"),
        ("file:run.db", r"leave out file:"),
        ("runs.db/", r"runs.db/ is a folder; name a file in it, such as runs.db/run.db"),
        ("run.db?keep=3&keep=4", r"says keep twice"),
        ("run.db?colour=red", r"there is no option 'colour'; there are durability"),
        ("nowhere.nothing:Store", r"store='nowhere.nothing:Store' can't be imported"),
    ],
)
def test_what_is_no_address(address: str, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        la.Trainer(store=address)


def test_file_may_have_options() -> None:
    location = location_of("run.db?durability=normal&keep_days=7")
    assert (location.shown, Path(location.path or "").name) == ("run.db", "run.db")
    assert location.retention.age == 7 * 86400


def test_file_stays_where_the_program_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    location = location_of("run.db")
    monkeypatch.chdir("/")
    assert location.path == str(tmp_path / "run.db")


def test_tilde_is_the_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert location_of("~/run.db").path == location_of("sqlite:///~/run.db").path == "/home/me/run.db"


@pytest.mark.parametrize("name", ["run", "run?keep=3.db", "what is 100%.db", "a#b.db"])
def test_path_is_a_file_whatever_its_name_is(name: str, tmp_path: Path) -> None:
    assert repr(opened(tmp_path / name)) == f"DurableStore({str(tmp_path / name)!r})"


@pytest.mark.parametrize("address", ["bob:secret@host/run", "postgres:bob:secret@host/run"])
def test_password_of_no_address_is_not_shown(address: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        location_of(address)
    assert "secret" not in str(refused.value)


def test_durability_is_taken_by_name_too(tmp_path: Path) -> None:
    assert isinstance(open_store("run.db", durability="normal"), DurableStore)
    assert isinstance(open_store(tmp_path / "run.db", retention=la.Retention(count=3)), DurableStore)
    with pytest.raises(ConfigurationError, match="durability='most' is unknown; choose from 'full', 'normal'"):
        open_store("run.db", durability="most")  # type: ignore[call-overload]
    with pytest.raises(ConfigurationError, match="a MemoryStore has no 'durability'; it has eviction_memory"):
        open_store("memory", durability="normal")
    with pytest.raises(ConfigurationError, match="a DurableStore has no 'colour'; it has durability, retention"):
        open_store("run.db", colour="red")  # type: ignore[call-overload]


async def test_plain_store_is_closed_by_its_block(tmp_path: Path) -> None:
    async with open_store(tmp_path / "run.db") as store:
        await store.enqueue_rollout("task")
        assert (tmp_path / "run.db-wal").exists()
    assert not (tmp_path / "run.db-wal").exists()


def test_trainer_shows_its_store(tmp_path: Path) -> None:
    assert ", store=MemoryStore(), " in repr(la.Trainer())
    assert ", store=DurableStore('run.db'), " in repr(la.Trainer(store="run.db"))


def test_what_is_no_store_at_all() -> None:
    with pytest.raises(ConfigurationError, match=r"store=3; give an address such as 'run.db' or 'memory', a Store, "):
        la.Trainer(store=3)  # type: ignore[arg-type]


def test_environment_names_the_store_of_trainers(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(la.Trainer().store, MemoryStore)
    monkeypatch.setenv("LIGHTACTORS_TRAINER_STORE", "run.db")
    assert isinstance(la.Trainer().store, DurableStore)
    assert isinstance(la.Trainer(store="memory").store, MemoryStore)
