"""Batches without a framework: options, state, transforms, Loader."""
