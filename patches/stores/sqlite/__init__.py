"""One SQLite file: the connection, its writer, its kind and version, and how keys are stored.

Only `backend` knows the algorithms.
"""
