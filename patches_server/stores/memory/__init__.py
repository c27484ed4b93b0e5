"""What a server keeps in memory."""

from patches_server.stores.memory.backend import MemoryBackend

__all__ = ["MemoryBackend"]
