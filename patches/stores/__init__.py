"""Where a client keeps its documents: in memory or in an SQLite file."""
