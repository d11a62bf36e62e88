"""``run_pretrain.py DATASET OUTPUT JSON``: ``pretrain`` in a process of its own, for torchrun."""

from __future__ import annotations

import json
import sys

from ecg_hf.training import pretrain

if __name__ == "__main__":
    pretrain("cg-dmer", sys.argv[1], sys.argv[2], **json.loads(sys.argv[3]))
