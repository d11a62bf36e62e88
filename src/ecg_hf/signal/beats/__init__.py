"""Heartbeats: their positions, shapes and regularity."""
