"""What a dataset has to have: a length, and items by index."""

from __future__ import annotations

from typing import Protocol, TypeVar, runtime_checkable

T_co = TypeVar("T_co", covariant=True)


@runtime_checkable
class Dataset(Protocol[T_co]):
    """A list will do, and so will a map-style dataset of PyTorch or of Hugging Face."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> T_co: ...
