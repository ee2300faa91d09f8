"""The PyTorch adapter: the only importer of torch."""
