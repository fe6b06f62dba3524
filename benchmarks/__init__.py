"""Measure the figures of README and RESULTS.md: `python -m benchmarks`; some files also run alone."""
