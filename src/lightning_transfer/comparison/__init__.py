"""Arrays and numbers in, tables and figures out."""
