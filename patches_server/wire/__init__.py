"""JSON-RPC 2.0 as the TypeScript client speaks it: frames, and the checks of what comes in."""
