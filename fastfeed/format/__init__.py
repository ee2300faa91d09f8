"""The format: schema and types, shard layout, writer, the plain-Python reference reader, verify."""
