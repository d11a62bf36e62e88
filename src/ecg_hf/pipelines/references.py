"""Reference ECGs: embeddings of recordings whose labels are known, to find the most similar ones."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from ecg_hf.errors import ModelFolderError

__all__ = ["ReferenceEcgs", "load_references"]

FILE, LABELS_FILE = "references.safetensors", "references.json"


@dataclass(frozen=True, slots=True, eq=False)
class ReferenceEcgs:
    """Embeddings of recordings, standardised, of length 1 and rounded to 8 bits.

    Attributes:
        codes: int8 ``(records, dim)``: 127 times the standardised, normalised embeddings' share of their largest.
        mean: float32 ``(dim,)``.
        scale: float32 ``(dim,)``.
        record_ids: Name of each recording in its dataset.
        labels: Labels of each.
    """

    codes: npt.NDArray[np.int8]
    mean: npt.NDArray[np.float32]
    scale: npt.NDArray[np.float32]
    record_ids: tuple[str, ...]
    labels: tuple[tuple[str, ...], ...]

    @classmethod
    def make(
        cls,
        embeddings: npt.NDArray[np.float32],
        record_ids: Sequence[str],
        labels: Sequence[Sequence[str]],
    ) -> ReferenceEcgs:
        """From float ``(records, dim)``."""
        mean, scale = embeddings.mean(0), embeddings.std(0) + 1e-6
        rows = (embeddings - mean) / scale
        codes = np.rint(127.0 * rows / np.abs(rows).max(1, keepdims=True)).astype(np.int8)
        return cls(codes, mean, scale, tuple(record_ids), tuple(tuple(one) for one in labels))

    def nearest(self, embedding: npt.NDArray[np.float32], count: int) -> list[dict[str, Any]]:
        """The most similar recordings: ``record_id``, ``similarity`` (cosine, at most 1) and ``labels``."""
        query = (embedding - self.mean) / self.scale
        rows = self.codes.astype(np.float32)
        similarity = rows @ query / (np.linalg.norm(rows, axis=1) * np.linalg.norm(query) + 1e-12)
        best = np.argsort(-similarity, kind="stable")[:count]
        return [
            {
                "record_id": self.record_ids[row],
                "similarity": round(float(similarity[row]), 4),
                "labels": list(self.labels[row]),
            }
            for row in best.tolist()
        ]

    def save(self, folder: str | Path) -> None:
        """Write both files into a model's folder."""
        save_file({"codes": self.codes, "mean": self.mean, "scale": self.scale}, Path(folder) / FILE)
        content = [list(entry) for entry in zip(self.record_ids, self.labels, strict=True)]
        text = json.dumps(content, separators=(",", ":"), ensure_ascii=False)
        (Path(folder) / LABELS_FILE).write_text(text + "\n", encoding="utf-8")


def load_references(folder: str | Path) -> ReferenceEcgs | None:
    """The reference ECGs of a model's folder, None if it has none.

    Raises:
        ModelFolderError: if the files do not fit each other.
    """
    path = Path(folder) / FILE
    if not path.is_file():
        return None
    try:
        arrays = load_file(path)
        entries = json.loads((Path(folder) / LABELS_FILE).read_text(encoding="utf-8"))
        names = tuple(str(name) for name, _ in entries)
        labels = tuple(tuple(map(str, several)) for _, several in entries)
        found = ReferenceEcgs(arrays["codes"], arrays["mean"], arrays["scale"], names, labels)
    except (OSError, ValueError, TypeError, KeyError, SafetensorError) as error:
        raise ModelFolderError("the reference ECGs can't be read", path=path) from error
    if len(found.codes) != len(names) or found.codes.shape[1:] != found.mean.shape:
        raise ModelFolderError("the reference ECGs do not fit each other", path=path)
    return found
