"""The store in a database: what is acknowledged is on the disk. One file (SQLite), or PostgreSQL."""

from lightactors.training.stores.sql.store import DurableStore as DurableStore
