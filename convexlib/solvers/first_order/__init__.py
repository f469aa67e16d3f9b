"""Plain iterations over given patterns: what the text teaches, and what others are checked by."""
