"""Histories for people: moments, differences between states, and who wrote what. Pure.

Server and client share it. No I/O, no clock, and nothing about stores or connections lives here.
"""

from patches.history.blame import Run, blame_of
from patches.history.diff import Diff, FieldDiff, diff_states
from patches.history.moments import Entry, Moment, moments_of

__all__ = [
    "Diff",
    "Entry",
    "FieldDiff",
    "Moment",
    "Run",
    "blame_of",
    "diff_states",
    "moments_of",
]
