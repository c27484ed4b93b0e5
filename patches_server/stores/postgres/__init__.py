"""Documents in a PostgreSQL database that several server processes share.

Only what all algorithms have lives here: connections, errors, migrations, the row of each document
with its tombstone, versions, branch records. An algorithm's own statements live with the algorithm.
No statement is built from a client's values, and nothing here decides what a commit becomes.
"""
