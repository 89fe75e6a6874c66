"""The store in memory: fast, and gone with its process."""

from lightactors.training.stores.memory.store import MemoryStore as MemoryStore
