"""Benchmarks: each measure beside a baseline that runs in turn with it."""
