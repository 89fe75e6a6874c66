"""PostgreSQL: several nodes over one database, each with a few connections."""

from lightactors.training.stores.sql.postgres.database import PostgresDatabase as PostgresDatabase
from lightactors.training.stores.sql.postgres.server import Server as Server
