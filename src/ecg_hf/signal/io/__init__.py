"""Reading recordings: one reader per kind of file, and what all of them check."""
