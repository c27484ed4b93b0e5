"""What a server keeps in memory, for tests and trials: nothing outlives the process."""

from patches_server.stores.memory.backend import MemoryBackend

__all__ = ["MemoryBackend"]
