"""From a model folder to a folder that other runtimes read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from ecg_hf.errors import ConfigurationError
from ecg_hf.export.checking import check_inputs, compare
from ecg_hf.export.graph import OUTPUTS, Exported, accepted_names, capture, need_onnx, write_onnx, write_torch
from ecg_hf.files import replace_folder, write_whole
from ecg_hf.models.modeling import EcgForClassification
from ecg_hf.models.pretrained import sample_record
from ecg_hf.pipelines.ecg_classification import default_function
from ecg_hf.runtime import EXPORT_FILE, MODEL_FILES, PREPROCESSING_FILE, ExportFacts, OnnxModel
from ecg_hf.signal import EcgRecord, read_record

__all__ = ["FORMATS", "HEADS", "export_model"]

FORMATS = tuple(MODEL_FILES)
HEADS = tuple(OUTPUTS)

_TRACED = 3
"""Records in the example that is traced: sizes 0 and 1 are special to the tracer."""


def export_model(
    model: Any,
    extractor: Any,
    target: str | Path,
    *,
    format: str = "onnx",
    head: str | None = None,
    records: Sequence[str | Path | EcgRecord] = (),
    overwrite: bool = False,
) -> ExportFacts:
    """Export a model with its preprocessing, once it has said what the model says on real recordings.

    Writes ``model.onnx`` or ``model.pt2``, ``preprocessing.json`` and ``export.json``. Inputs and outputs have the
    model's names; the batch may have any size, and records are as long as the extractor makes them.

    Args:
        model: A classifier, or an encoder; it is moved to the CPU and float32.
        extractor: Its feature extractor.
        target: Folder to write.
        format: ``onnx`` or ``torch``.
        head: ``none`` for ``last_hidden_state`` and ``pooler_output``, ``classification`` for ``logits``,
            ``projection`` for ``ecg_embeds``, the side of the text space. By default ``classification`` for
            classifiers, ``none`` for others.
        records: Recordings to check on, besides the one that ships with the package.
        overwrite: Replace an existing folder.

    Returns:
        The content of ``export.json``.

    Raises:
        ConfigurationError: if the folder exists, or the model has no such head.
        ConversionError: if the export's outputs are not the model's; nothing is written then.
        LibraryMissing: without the libraries of the extra ``export``.
        EcgError: if a recording can't be read.
    """
    if format not in FORMATS:
        raise ConfigurationError(f"format must be one of {', '.join(FORMATS)}", value=format)
    if format == "onnx":
        need_onnx()
    target = Path(target)
    if target.exists() and not overwrite:
        raise ConfigurationError("exists already: overwrite it or choose another folder", path=target)
    model = model.to("cpu").float().eval()
    is_classifier = isinstance(model, EcgForClassification)
    head = head or ("classification" if is_classifier else "none")
    if head not in HEADS:
        raise ConfigurationError(f"head must be one of {', '.join(HEADS)}", value=head)
    if head == "classification" and not is_classifier:
        raise ConfigurationError(f"{type(model).__name__} has no classifier", value=head)
    model_class = type(model).__name__
    if head != "classification":
        model = model.base_model
    read = [one if isinstance(one, EcgRecord) else read_record(one) for one in (sample_record(), *records)]
    first = extractor(read[0], return_tensors="np", return_sample_mask=True)
    module = Exported(model, head, accepted_names(model, head, tuple(first)))
    inputs = check_inputs(extractor, read, module.inputs)
    program = capture(module, {name: torch.from_numpy(inputs[name][:_TRACED]) for name in module.inputs})
    facts: ExportFacts = {
        "format": "onnx" if format == "onnx" else "torch",
        "method": model.config.model_type,
        "model_class": model_class,
        "head": head,  # type: ignore[typeddict-item]  # one of HEADS
        "inputs": {name: ["batch", *inputs[name].shape[1:]] for name in module.inputs},
        "outputs": list(module.outputs),
        "min_leads": model.config.min_leads if head == "classification" else 0,
        "checked": {
            "recordings": 0,
            "inputs": 0,
            "batches": [],
            "largest_difference": {},
            "largest_value": {},
        },
        "versions": _versions(format),
    }
    if head == "classification":
        facts["labels"] = [model.config.id2label[index] for index in range(model.config.num_labels)]
        facts["function"] = default_function(model.config)  # type: ignore[typeddict-item]
    with replace_folder(target, overwrite=overwrite) as folder:
        folder.mkdir()
        write_whole(folder / PREPROCESSING_FILE, extractor.to_json_string())
        _write_facts(folder, facts)
        if format == "onnx":
            write_onnx(program, module, folder / MODEL_FILES[format])
            run: Any = OnnxModel(folder, threads=1).run
        else:
            write_torch(program, folder / MODEL_FILES[format])
            run = _LoadedProgram(folder / MODEL_FILES[format], module)
        facts["checked"] = compare(module, run, inputs, len(read))
        _write_facts(folder, facts)
    return facts


class _LoadedProgram:
    """A ``.pt2`` archive as it was written, on arrays by name."""

    def __init__(self, path: Path, module: Exported) -> None:
        self.program = torch.export.load(path).module()
        self.inputs, self.outputs = module.inputs, module.outputs

    def __call__(self, inputs: dict[str, Any]) -> dict[str, Any]:
        with torch.no_grad():
            outputs = self.program(*(torch.from_numpy(inputs[name]) for name in self.inputs))
        return {name: value.numpy() for name, value in zip(self.outputs, outputs, strict=True)}


def _write_facts(folder: Path, facts: ExportFacts) -> None:
    write_whole(folder / EXPORT_FILE, json.dumps(facts, indent=2, ensure_ascii=False) + "\n")


def _versions(format: str) -> dict[str, str]:
    libraries = ("torch", "onnx", "onnxscript", "onnxruntime") if format == "onnx" else ("torch",)
    return {name: version(name) for name in libraries}
