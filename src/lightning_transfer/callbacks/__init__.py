"""Callbacks: staged unfreezing, the freeze audit, history, seeds, and the stop on non-finite losses."""
