"""Delineation of P, QRS and T: annotations, scores by the standard, a head on frozen tokens, controls."""
