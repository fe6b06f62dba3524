"""Callbacks that draw for TensorBoard: each one thing, at the end of a fit, or more often."""
