"""Where a client keeps replay documents: in memory or in SQLite.

A store saves and loads in transactions, and takes no decision.
"""
