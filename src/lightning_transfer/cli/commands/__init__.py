"""One file a command that is not Lightning's own: plain functions, callable from Python too."""
