"""Plots of a run for its loggers: each callback one plot, at the end of a fit, or more often."""
