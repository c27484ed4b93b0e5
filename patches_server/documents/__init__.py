"""What every document server shares, whatever the algorithm: records, rules, and store Protocols.

Knows no algorithm, no transport and no store's implementation.
"""
