"""`lightactors store export`: what is in a store, as JSON lines or Parquet, for other tools."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
from collections.abc import Callable, Generator, Iterable, Iterator
from itertools import islice
from pathlib import Path
from types import FrameType
from typing import IO, Any, Literal, NoReturn

import msgspec
import typer

from lightactors.actors.tree import counted, size
from lightactors.cli.exits import CommandError
from lightactors.training.records import Attempt, AttemptedRollout, Rollout, Span
from lightactors.training.stores.sql.archive import Archive

What = Literal["rollouts", "attempts", "spans", "all"]

_BATCH = 1000
"""Records that are written at a time: what is in memory."""

_COUNTERS = {"rollouts": "rollouts", "attempts": "attempts", "spans": "spans", "all": "rollouts"}

# The columns of a Parquet file, by what is exported; what has structure of its own is a text of JSON.
_COLUMNS: dict[What, dict[str, str]] = {
    "rollouts": {
        "rollout_id": "string",
        "status": "string",
        "mode": "string",
        "resources_id": "string",
        "start_time": "double",
        "end_time": "double",
        "input": "json",
        "config": "json",
        "metadata": "json",
        "attempt": "json",
    },
    "attempts": {
        "rollout_id": "string",
        "attempt_id": "string",
        "sequence_id": "int64",
        "status": "string",
        "worker_id": "string",
        "start_time": "double",
        "end_time": "double",
        "last_heartbeat_time": "double",
        "metadata": "json",
    },
    "spans": {
        "rollout_id": "string",
        "attempt_id": "string",
        "sequence_id": "int64",
        "trace_id": "string",
        "span_id": "string",
        "parent_id": "string",
        "name": "string",
        "start_time": "double",
        "end_time": "double",
        "status": "json",
        "attributes": "json",
        "events": "json",
        "links": "json",
        "resource": "json",
    },
}
_COLUMNS["all"] = {**_COLUMNS["rollouts"], "attempts": "json", "spans": "json"}
del _COLUMNS["all"]["attempt"]


def export(url: str, target: Path, what: What, *, force: bool) -> None:
    """Write what a store has into a file, which is there as a whole or not at all."""
    write = _WRITERS.get(target.suffix)
    if write is None:
        raise CommandError(f"{target} says no format that is known; end its name in {' or '.join(_WRITERS)}")
    if not target.absolute().parent.is_dir():
        raise CommandError(
            f"there is no folder {target.absolute().parent} for {target.name}; make it, or choose another"
        )
    if target.is_dir():
        raise CommandError(f"{target} is a folder; name a file")
    if target.exists() and not force:
        raise CommandError(f"{target} is there already; choose another name, or overwrite it with --force")
    with Archive(url) as archive, _terminated_in_order():
        total = archive.counters()[_COUNTERS[what]]
        with _replacing(target) as part:
            count = write(part, what, _shown(_records(archive, what), what, total))
    typer.echo(f"wrote {counted(count, _noun(what))} to {target}, {size(target.stat().st_size)}")


def _noun(what: What) -> str:
    return "rollout" if what == "all" else what.removesuffix("s")


def _records(archive: Archive, what: What) -> Iterator[dict[str, Any]]:
    if what == "spans":
        yield from map(_fields, archive.all_spans())
        return
    for content in archive.contents():
        if what == "rollouts":
            yield _fields(content.rollout)
        elif what == "attempts":
            yield from map(_fields, content.attempts)
        else:
            spans = archive.spans(content.rollout.rollout_id)
            yield {**_fields(content.rollout), "attempts": content.attempts, "spans": spans}


def _fields(record: Rollout | Attempt | Span) -> dict[str, Any]:
    fields = {name: getattr(record, name) for name in record.__struct_fields__}
    if isinstance(record, Rollout) and not isinstance(record, AttemptedRollout):
        fields["attempt"] = None
    return fields


# The formats


def _write_lines(path: Path, what: What, records: Iterable[dict[str, Any]]) -> int:
    count = 0
    encode = msgspec.json.Encoder(enc_hook=_stand_in).encode
    with path.open("wb") as file:
        for record in records:
            file.write(encode(record) + b"\n")
            count += 1
        _sync(file)
    return count


def _write_parquet(path: Path, what: What, records: Iterable[dict[str, Any]]) -> int:
    try:
        # Imported here: large, and an extra of its own.
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise CommandError(
            f"Parquet needs pyarrow ({error}): pip install 'lightactors[parquet]', or export to .jsonl"
        ) from None
    count = 0
    encode = msgspec.json.Encoder(enc_hook=_stand_in).encode
    text = pyarrow.string()
    types = {"string": text, "json": text, "double": pyarrow.float64(), "int64": pyarrow.int64()}
    columns = _COLUMNS[what]
    schema = pyarrow.schema([(name, types[kind]) for name, kind in columns.items()])
    with path.open("wb") as file:
        with pyarrow.parquet.ParquetWriter(file, schema, compression="zstd") as writer:
            for batch in _batches(records):
                values = [[_cell(record[name], kind, encode) for record in batch] for name, kind in columns.items()]
                writer.write_table(pyarrow.table(values, schema=schema))
                count += len(batch)
        _sync(file)
    return count


def _batches(records: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    rest = iter(records)
    while batch := list(islice(rest, _BATCH)):
        yield batch


def _cell(value: Any, kind: str, encode: Callable[[Any], bytes]) -> Any:
    return value if value is None or kind != "json" else encode(value).decode()


def _stand_in(value: Any) -> object:
    return value.tolist() if hasattr(value, "tolist") else repr(value)


_WRITERS: dict[str, Callable[[Path, What, Iterable[dict[str, Any]]], int]] = {
    ".jsonl": _write_lines,
    ".parquet": _write_parquet,
}


# The file


@contextlib.contextmanager
def _replacing(target: Path) -> Generator[Path]:
    """Give a path to write to; what is written takes the target's place in the end, or is removed."""
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        yield part
        os.replace(part, target)
    except OSError as error:
        raise CommandError(f"{target} can't be written: {error.strerror or error}") from error
    finally:
        part.unlink(missing_ok=True)


def _sync(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


@contextlib.contextmanager
def _terminated_in_order() -> Generator[None]:
    """Let SIGTERM leave the block as an exception, so that nothing half-written stays."""

    def leave(number: int, frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _shown(records: Iterable[dict[str, Any]], what: What, total: int) -> Iterator[dict[str, Any]]:
    """Yield the records; show a bar of them if somebody looks."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield from records
        return
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        yield from progress.track(records, total=total)
