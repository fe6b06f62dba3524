"""What the figures of README and RESULTS.md come from: `python -m benchmarks`, and some files alone."""
