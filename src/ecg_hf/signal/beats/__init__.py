"""Heartbeats: where they are, what they look like, how regular they are."""
