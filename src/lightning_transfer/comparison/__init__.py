"""Comparison of the regimes, and of a backbone's stages, on one's own images."""
