"""One SQLite file: the connection, its writer, and how keys are stored. Knows no algorithm."""
