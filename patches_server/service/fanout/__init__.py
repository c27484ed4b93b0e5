"""From a commit to its subscribers: who is told, in what order, how much may wait."""
