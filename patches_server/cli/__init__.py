"""The command `patches-server`: arguments, logs, and the tools for a file. Nothing imports it."""

from patches_server.cli.main import main

__all__ = ["main"]
