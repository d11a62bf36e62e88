"""CLEAR-HUG: heartbeats as tokens, leads as views, groups of leads as a hierarchy."""
