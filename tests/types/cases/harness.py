"""The harness itself: what both checkers infer, and errors that both must find."""

from typing import assert_type


def double(number: int) -> int:
    return 2 * number


assert_type(double(2), int)
assert_type(double(2), str)  # E: "int"
double("2")  # E(mypy): Argument 1 to "double"  # E(pyright): "Literal['2']"
double(number=2, factor=3)  # E: "factor"
