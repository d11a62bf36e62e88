"""What heads read: pooled vectors, tokens, and the files that keep them."""
