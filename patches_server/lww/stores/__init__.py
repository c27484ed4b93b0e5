"""Where a server keeps LWW documents: in memory or in SQLite, and the checkup of its tables.

A store saves and loads in transactions, and takes no decision.
"""
