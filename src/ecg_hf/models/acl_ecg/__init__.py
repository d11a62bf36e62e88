"""ACL-ECG: anatomy-aware contrastive learning for multi-lead ECGs (doi 10.3390/s26031080)."""
