"""A model as a graph whose inputs and outputs have the model's own names, and whose batch may have any size."""

from __future__ import annotations

import inspect
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ecg_hf.errors import ConfigurationError
from ecg_hf.signal.io.extras import needed

__all__ = ["OUTPUTS", "Exported", "accepted_names", "capture", "need_onnx", "write_onnx", "write_torch"]

OUTPUTS = {
    "none": ("last_hidden_state", "pooler_output"),
    "classification": ("logits",),
    "projection": ("ecg_embeds",),
}
"""Names of the outputs with each head."""

_BATCH = "batch"


class Exported(nn.Module):
    """A model with tensors by position in and out, in a fixed order.

    Args:
        model: In evaluation mode.
        head: One of :data:`OUTPUTS`.
        inputs: Names of what it is given, see :func:`accepted_names`.
    """

    def __init__(self, model: Any, head: str, inputs: Sequence[str]) -> None:
        super().__init__()
        self.model, self.head, self.inputs = model, head, tuple(inputs)
        self.outputs = OUTPUTS[head]

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """The outputs, float32."""
        given = dict(zip(self.inputs, tensors, strict=True))
        if self.head == "projection":
            return (self.model.get_ecg_features(**given).float(),)
        output = self.model(**given)
        return tuple(output[name].float() for name in self.outputs)


def accepted_names(model: Any, head: str, available: Sequence[str]) -> tuple[str, ...]:
    """Those of the extractor's outputs that the model reads."""
    function: Callable[..., Any] = model.forward
    if head == "projection":
        if not hasattr(model, "get_ecg_features"):
            raise ConfigurationError(
                f"{type(model).__name__} has no projection: it was trained on signals alone", value=head
            )
        function = model.get_ecg_features
    parameters = inspect.signature(function).parameters
    return tuple(name for name in available if name in parameters)


def capture(module: Exported, inputs: Mapping[str, Tensor]) -> Any:
    """The program of ``module``, any number of records at a time.

    Args:
        module: What to trace.
        inputs: Of three records or more: sizes 0 and 1 are special to the tracer.
    """
    tensors = tuple(inputs[name] for name in module.inputs)
    batch = torch.export.Dim(_BATCH)
    with torch.no_grad(), _quiet():
        program = torch.export.export(module, tensors, dynamic_shapes=(tuple({0: batch} for _ in tensors),))
    for part in program.graph_module.modules():
        for node in part.graph.nodes if isinstance(part, torch.fx.GraphModule) else ():
            # Names the files of this machine.
            node.meta.pop("stack_trace", None)
    return program


def need_onnx() -> Any:
    """The library ``onnx``.

    Raises:
        LibraryMissing: if it, or what else exporting to ONNX takes, is not installed.
    """
    for library in ("onnxscript", "onnxruntime"):
        needed(library, "export", "exports to ONNX")
    return needed("onnx", "export", "exports to ONNX")


def write_torch(program: Any, path: Path) -> None:
    """As a ``.pt2`` archive; ``torch.export.load`` reads it."""
    torch.export.save(program, path)


def write_onnx(program: Any, module: Exported, path: Path) -> None:
    """As one ONNX file, weights included."""
    checker = need_onnx().checker
    with _quiet():
        onnx_program = torch.onnx.export(
            program,
            dynamo=True,
            verbose=False,
            input_names=module.inputs,
            output_names=module.outputs,
            dynamic_shapes=(tuple({0: _BATCH} for _ in module.inputs),),
        )
    assert onnx_program is not None
    onnx_program.save(path, external_data=False)
    checker.check_model(str(path))


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch's exporters say about their own deprecations and about libraries that are not installed."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
