"""Replay: documents of rows that are changed by named actions.

The pure part is here: clocks, actions, the timeline; `algorithm` and `doc` are the client's side.
"""

from patches.algorithms.replay.actions import Action, Actions
from patches.algorithms.replay.algorithm import ReplayAlgorithm
from patches.algorithms.replay.doc import PendingAction, ReplayDoc
from patches.algorithms.replay.tx import Tx

__all__ = ["Action", "Actions", "PendingAction", "ReplayAlgorithm", "ReplayDoc", "Tx"]
