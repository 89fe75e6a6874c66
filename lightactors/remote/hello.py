"""The hello: what each end of a link between two nodes says first."""

from __future__ import annotations

from dataclasses import dataclass

from lightactors.contract import Role

PROTOCOL = 1
"""The number of the frames' format; a change that an older node could not read raises it."""


@dataclass(frozen=True)
class Hello:
    """Who speaks."""

    node: str  # a random name of this incarnation
    system: str
    version: str  # of lightactors there
    limit: int  # bytes of the largest message that it takes
    role: Role = "admin"  # what whoever gets it may do at the end that says it
    protocol: int = PROTOCOL

    def objection(self) -> str | None:
        """Return why no link can be had with who said it."""
        if self.protocol == PROTOCOL:
            return None
        older, newer = sorted([self.protocol, PROTOCOL])
        return (
            f"the other end, lightactors {self.version or '?'}, speaks protocol {self.protocol}, and this one "
            f"{PROTOCOL}; bring who speaks {older} to a version that speaks {newer}"
        )
