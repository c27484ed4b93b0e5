"""The command `patches-server`."""

from patches_server.cli.main import main

__all__ = ["main"]
