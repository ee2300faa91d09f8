"""Measuring what a machine can feed: a dataset stage by stage, and the workloads of MLPerf Storage."""
