"""A seeded simulator of 12-lead ECGs with codes, reports and true R peaks, for tests and the quickstart."""

from ecg_hf.signal.synthetic.findings import FINDINGS, RHYTHMS, SCP_CODES
from ecg_hf.signal.synthetic.reports import Measurements
from ecg_hf.signal.synthetic.simulate import SyntheticBatch, SyntheticEcg, simulate

__all__ = ["FINDINGS", "RHYTHMS", "SCP_CODES", "Measurements", "SyntheticBatch", "SyntheticEcg", "simulate"]
