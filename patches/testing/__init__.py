"""What helps to test code that uses this toolkit: fixtures, a clock, faults, contracts, simulation.

Nothing imports it but tests. What only this repository's tests need is in `tests/support`.
"""
