"""From what people have to shards: sources and engines."""
