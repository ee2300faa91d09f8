"""The node cache as a library: pools of slots on disks, and what stays in them. No sockets, no asyncio."""
