"""LightningModules, one a regime; each overrides only what differs."""
