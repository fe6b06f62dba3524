"""The wing that runs a backbone once and keeps what it said."""
