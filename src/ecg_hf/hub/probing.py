"""What a model folder makes of one stored recording, in few numbers that two machines can compare."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch
from torch import Tensor

from ecg_hf.documents import Count, read_json
from ecg_hf.errors import ConfigurationError, ModelFolderError
from ecg_hf.models.pretrained import sample_record
from ecg_hf.signal import read_record

__all__ = ["ABSOLUTE", "RELATIVE", "OutputFigures", "ProbeReport", "differences", "probe_model", "read_probe"]

ABSOLUTE = 1e-4
"""How far two machines may be apart."""

RELATIVE = 1e-5
"""The same as a share of the figure: of features in the hundreds, 1e-4 is the last digit of float32."""

SHOWN = 10
"""Values of each output that are reported, evenly spaced over all of them."""


class OutputFigures(TypedDict):
    """One tensor in few numbers.

    ``values`` are those at evenly spaced places of the flattened tensor, the first and the last among them.
    """

    shape: list[Count]
    mean: float
    std: float
    values: list[float]


class ProbeReport(TypedDict):
    """What a folder made of the stored recording.

    ``inputs`` is what the feature extractor made of it, so that preprocessing is told from weights; ``outputs`` is
    what the model made of that: the encoder's, a dual encoder's projection, a classifier's logits.
    """

    probe: str
    model: str
    model_type: str
    parameters: Count
    inputs: dict[str, OutputFigures]
    outputs: dict[str, OutputFigures]


@dataclass(frozen=True, slots=True)
class _Pair:
    """One figure of two reports."""

    name: str
    here: float
    there: float

    @property
    def apart(self) -> bool:
        return abs(self.here - self.there) > ABSOLUTE + RELATIVE * abs(self.there)


def probe_model(name: str, model: Any, extractor: Any, classifier: Any = None) -> ProbeReport:
    """Run a model on the recording that ships with the package, see :func:`ecg_hf.sample_record`.

    Args:
        name: Folder or name, for the report.
        model: Encoder.
        extractor: Its feature extractor.
        classifier: The folder's classifier, if it is one.

    Raises:
        ModelFolderError: if an output is not finite.
        EcgError: if the feature extractor can't take the recording.
    """
    record = sample_record()
    inputs = {
        key: value
        for key, value in extractor(read_record(record), return_tensors="pt").items()
        if isinstance(value, Tensor)
    }
    outputs: dict[str, Tensor] = {}
    with torch.inference_mode():
        found = model.eval()(**inputs)
        outputs |= {key: found[key] for key in ("last_hidden_state", "pooler_output") if key in found}
        if hasattr(model, "get_ecg_features"):
            # Where the encoder alone was converted there is no projection.
            with contextlib.suppress(ConfigurationError):
                outputs["ecg_embeds"] = model.get_ecg_features(**inputs)
        if classifier is not None:
            outputs["logits"] = classifier.eval()(**inputs).logits
    broken = [key for key, value in outputs.items() if not torch.isfinite(value).all()]
    if broken:
        raise ModelFolderError(f"{broken[0]} of the stored recording is not finite", path=name)
    return ProbeReport(
        probe=_digest(record),
        model=type(model if classifier is None else classifier).__name__,
        model_type=model.config.model_type,
        parameters=(model if classifier is None else classifier).num_parameters(),
        inputs={key: _figures(value) for key, value in inputs.items()},
        outputs={key: _figures(value) for key, value in outputs.items()},
    )


def read_probe(path: str | Path) -> ProbeReport:
    """A report that ``ecg-hf convert --check FOLDER --json`` printed.

    Raises:
        ConfigurationError: if the file holds none.
    """
    found: ProbeReport = read_json(path, ProbeReport)
    return found


def differences(here: ProbeReport, there: ProbeReport) -> list[str]:
    """In what two reports disagree, a sentence for each; nothing where all figures are within :data:`ABSOLUTE`.

    Raises:
        ConfigurationError: if they are of different recordings: another version of the package has another one.
    """
    if here["probe"] != there["probe"]:
        raise ConfigurationError(
            "the other report is of another recording: both machines need the same version of ecg_hf",
            value=there["probe"],
        )
    told = [
        f"{key} is {here[key]!r} here, {there[key]!r} there"  # type: ignore[literal-required]
        for key in ("model", "model_type", "parameters")
        if here[key] != there[key]  # type: ignore[literal-required]
    ]
    for part in ("inputs", "outputs"):
        mine, theirs = here[part], there[part]  # type: ignore[literal-required]
        for name in dict.fromkeys((*mine, *theirs)):
            if name not in mine or name not in theirs:
                told.append(f"{name} is only {'there' if name in theirs else 'here'}")
            elif list(mine[name]["shape"]) != list(theirs[name]["shape"]):
                told.append(f"{name} has shape {mine[name]['shape']} here, {theirs[name]['shape']} there")
            else:
                pairs = list(_pairs(mine[name], theirs[name]))
                apart = [pair for pair in pairs if pair.apart]
                if apart:
                    worst = max(apart, key=lambda pair: abs(pair.here - pair.there))
                    told.append(
                        f"{name}: {len(apart)} of {len(pairs)} figures differ, {worst.name} most: "
                        f"{worst.here:.6g} here, {worst.there:.6g} there"
                    )
    return told


def _pairs(here: OutputFigures, there: OutputFigures) -> Iterator[_Pair]:
    yield _Pair("mean", here["mean"], there["mean"])
    yield _Pair("std", here["std"], there["std"])
    if len(here["values"]) != len(there["values"]):
        yield _Pair("number of values", len(here["values"]), len(there["values"]))
        return
    for position, (one, other) in enumerate(zip(here["values"], there["values"], strict=True)):
        yield _Pair(f"value {position + 1}", one, other)


def _figures(tensor: Tensor) -> OutputFigures:
    flat = tensor.detach().cpu().double().flatten().numpy()
    places = np.linspace(0, flat.size - 1, min(SHOWN, flat.size)).round().astype(int)
    return OutputFigures(
        shape=list(tensor.shape),
        mean=float(flat.mean()),
        std=float(flat.std()),
        values=[float(flat[place]) for place in places],
    )


def _digest(record: Path) -> str:
    """SHA-256 of the recording: of its header and its samples, in this order."""
    digest = hashlib.sha256()
    for file in sorted(record.parent.glob(f"{record.stem}.*")):
        digest.update(file.read_bytes())
    return digest.hexdigest()
