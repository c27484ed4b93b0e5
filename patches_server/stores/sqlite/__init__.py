"""What a server keeps in one SQLite file, and the tools for such a file."""

from patches_server.stores.sqlite.backend import SqliteBackend

__all__ = ["SqliteBackend"]
