"""Snapshots: manifests, commit, Dataset, writers."""
