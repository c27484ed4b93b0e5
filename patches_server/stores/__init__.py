"""Where a server keeps documents: in memory, in SQLite."""
