"""Where a client keeps OT documents: in memory or in SQLite. A store decides nothing."""
