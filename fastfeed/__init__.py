"""fastfeed: feeds training from sharded datasets."""

__version__ = "0.1.0"
