"""Animals and things drawn by code, for runs that need neither a network nor photographs."""
