"""A value that is not what the contract says, and where in the message it is."""

from __future__ import annotations


class Misfit(Exception):
    """A value that does not fit; caught where a call is read or a reply is written."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text
        self.path: list[str] = []

    def under(self, name: str) -> Misfit:
        """Say in which field, or at which place of a list, it is."""
        self.path.insert(0, name)
        return self

    @property
    def field(self) -> str:
        """The way to it: `config.retry_condition[2]`."""
        return ".".join(self.path).replace(".[", "[")

    def __str__(self) -> str:
        return f"{self.field}: {self.text}" if self.path else self.text
