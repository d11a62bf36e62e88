"""Answers over HTTP: what ``ecg-hf serve`` runs. Needs the extra ``serve``."""
