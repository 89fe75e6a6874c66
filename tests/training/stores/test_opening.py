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
        ("nowhere.nothing:Store", r"store='nowhere.nothing:Store' can't be imported"),
    ],
)
def test_what_is_no_address(address: str, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        la.Trainer(store=address)


def test_environment_names_the_store_of_trainers(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(la.Trainer().store, MemoryStore)
    monkeypatch.setenv("LIGHTACTORS_TRAINER_STORE", "run.db")
    assert isinstance(la.Trainer().store, DurableStore)
    assert isinstance(la.Trainer(store="memory").store, MemoryStore)
