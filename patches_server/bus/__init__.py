"""Hints between server processes: that a document was committed to, deleted, or that rights changed.

A bus may lose, double, delay and reorder them: the store is the only truth, and whoever gets a hint
that does not follow on reads the store. Nothing here knows documents, subscriptions or sessions.
"""
