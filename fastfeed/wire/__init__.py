"""The daemon's protocol without I/O, and the client that readers use (docs/wire.md)."""
