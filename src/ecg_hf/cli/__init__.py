"""The ``ecg-hf`` command."""
