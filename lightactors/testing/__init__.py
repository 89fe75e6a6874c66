"""What tests of actors need: a clock that jumps, a gate to hold an actor at."""

from lightactors.testing.clock import virtual_backend as virtual_backend
from lightactors.testing.gate import Gate as Gate
