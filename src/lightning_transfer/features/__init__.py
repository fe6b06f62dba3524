"""The wing that runs a base once and keeps what it said."""
