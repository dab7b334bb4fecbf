"""Benchmarks: `make bench`. Each prints its numbers as ratios against peers measured in the same run."""
