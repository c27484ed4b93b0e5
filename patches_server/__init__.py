"""The Patches server: document servers behind JSON-RPC on aiohttp websockets."""
