"""Animals and things drawn by code, for runs without internet and photographs."""
