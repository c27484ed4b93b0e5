"""Hints between server processes: a document was committed to or deleted, or rights changed.

A bus may lose, double, delay and reorder them: the store is the only truth, and whoever gets a hint
that does not follow on reads the store. Nothing here knows documents, subscriptions or sessions.
"""
