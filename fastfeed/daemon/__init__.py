"""The node's cache daemon: one process that serves everyone on the machine. `fastfeed cache serve` is its entry."""
