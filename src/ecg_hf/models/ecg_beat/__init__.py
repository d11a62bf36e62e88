"""ECG-Beat: a median beat and measurements, encoded to what reports say; this package's own method."""
