"""A page to upload a recording to: what ``ecg-hf demo`` runs. Needs the extra ``demo``."""
