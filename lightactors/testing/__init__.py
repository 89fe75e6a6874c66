"""What our own tests are made of, for yours: virtual time on both loops, gates, and the store's conformance suite."""

from lightactors.testing.clock import VirtualClockLoop as VirtualClockLoop
from lightactors.testing.clock import virtual_backend as virtual_backend
from lightactors.testing.gate import Gate as Gate
from lightactors.testing.store import CHECKS as CHECKS
from lightactors.testing.store import check_store as check_store
