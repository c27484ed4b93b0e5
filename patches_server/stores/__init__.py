"""Where a server keeps documents: in memory, in SQLite. A store takes no decision."""
