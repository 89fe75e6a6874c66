"""The commands that look into a store and tidy it, on PostgreSQL."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.stored import fill
from tests.real_time.cli.command import lightactors


def store(folder: Path, *arguments: str) -> str:
    done = lightactors("store", *arguments, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_show(postgres_url: str, tmp_path: Path) -> None:
    fill(postgres_url)
    text = store(tmp_path, "show", postgres_url)
    assert text.startswith("postgresql://")
    assert "6 rollouts" in text.splitlines()[0]
    assert "8 attempts, 16 spans" in text
    assert "ValueError: no such" in text
    assert len(store(tmp_path, "show", postgres_url, "--spans", "r0").splitlines()) == 6
    assert len(store(tmp_path, "show", postgres_url, "--rollouts").splitlines()) == 7


def test_export(postgres_url: str, tmp_path: Path) -> None:
    fill(postgres_url)
    for what, count in (("rollouts", 6), ("attempts", 8), ("spans", 16), ("all", 6)):
        store(tmp_path, "export", postgres_url, f"{what}.jsonl", "--what", what)
        assert len((tmp_path / f"{what}.jsonl").read_text().splitlines()) == count


def test_prune(postgres_url: str, tmp_path: Path) -> None:
    fill(postgres_url)
    assert "would remove 3 rollouts" in store(tmp_path, "prune", postgres_url, "--force", "--keep", "1", "--dry-run")
    assert store(tmp_path, "prune", postgres_url, "--force", "--keep", "1").startswith(
        "removed 3 rollouts from postgresql://"
    )
    facts = json.loads(store(tmp_path, "show", postgres_url, "--json"))
    assert (facts["counters"]["rollouts"], facts["counters"]["spans"], facts["counters"]["pruned"]) == (3, 4, 3)
    assert store(tmp_path, "prune", postgres_url, "--force", "--max-size", "1KB").startswith("removed 1 rollout from")


def test_migrate(postgres_url: str, tmp_path: Path) -> None:
    fill(postgres_url)
    assert store(tmp_path, "migrate", postgres_url).startswith("nothing to do")


def test_what_is_not_there(postgres_url: str, tmp_path: Path) -> None:
    base = postgres_url.partition("?")[0]
    for url, told, code in (
        (f"{postgres_url}{'&' if '?' in postgres_url else '?'}schema=other", "holds no store", 2),
        (postgres_url.replace(base.rpartition("/")[2], "nowhere", 1), "create the database first", 1),
    ):
        done = lightactors("store", "show", url, cwd=tmp_path)
        assert done.returncode == code
        assert told in done.stderr, done.stderr
        assert len(done.stderr.splitlines()) == 1
