"""KED: the ECG encoder of a knowledge-enhanced diagnosis model (doi 10.1016/j.xcrm.2024.101875)."""
