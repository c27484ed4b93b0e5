"""Where a client keeps LWW documents: in memory or in SQLite. A store decides nothing."""
