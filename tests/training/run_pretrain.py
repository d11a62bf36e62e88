"""``run_pretrain.py METHODS DATASET OUTPUT JSON``: ``pretrain`` in a process of its own; for torchrun too.

``METHODS`` and datasets are separated by commas, each run goes to ``OUTPUT/<method>``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from ecg_hf.training import pretrain

if __name__ == "__main__":
    torch.set_num_threads(1)
    for method in sys.argv[1].split(","):
        pretrain(method, sys.argv[2].split(","), Path(sys.argv[3], method), **json.loads(sys.argv[4]))
