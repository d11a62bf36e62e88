"""ECG-Distil: a raw-signal encoder distilled from reports, measurements and ECG-Beat; this package's own method."""
