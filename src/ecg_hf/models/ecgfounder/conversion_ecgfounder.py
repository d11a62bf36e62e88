"""The authors' checkpoints of ECGFounder, of 12 leads and of lead I, to this package's classes."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ecg_hf.errors import ConversionError
from ecg_hf.models.conversion import Converted, OfficialFiles, OfficialState
from ecg_hf.models.ecgfounder.configuration_ecgfounder import EcgFounderConfig
from ecg_hf.models.ecgfounder.labels_ecgfounder import LABELS
from ecg_hf.signal.leads import STANDARD_LEADS

__all__ = ["FILES", "convert_official"]

FILES = OfficialFiles(
    names=("12_lead_ECGFounder.pth", "1_lead_ECGFounder.pth"),
    repository="https://huggingface.co/PKUDigitalHealth/ECGFounder",
    size_bytes=123_010_584,
    parity="fixture, 1e-5: filters, scale, stages, embedding, logits, loss, gradients; keys, shapes and parameters "
    "of the published size",
    keys=("first_conv.conv.weight", "stage_list.0.block_list.0.se_fc1.weight"),
)

_LEADS = {12: STANDARD_LEADS, 1: ("I",)}
_CONVOLUTIONS = {"conv1": "reduce", "conv2": "grouped", "conv3": "expand"}
_LINEAR = {"se_fc1": "squeeze", "se_fc2": "excite"}
_NOTES = (
    "the official files hold batch norms that the official network does not run: they were left out",
    "the authors' code is under the MIT licence; check what their page says about the weights",
)


def convert_official(state: OfficialState) -> Converted:
    """Convert a classifier, or its encoder alone (without ``dense``).

    Widths and depths are read from the shapes. The stride, and that no batch norm runs, are known of the published
    size; another needs ``stride`` and ``use_bn`` of the authors' configuration (``--config``).

    Args:
        state: The official tensors.

    Raises:
        ConversionError: Sizes can't be read, or the network is one that this package does not have.
    """
    stem_channels, leads, kernel_size = state.require_shape("first_conv.conv.weight", 3)
    if leads not in _LEADS:
        raise ConversionError(
            f"the network has {leads} leads; known are networks of 12 and of 1", value=leads
        )
    channels: list[int] = []
    depths: list[int] = []
    for stage in range(state.count("stage_list.{}.")):
        channels.append(state.require_shape(f"{_block(stage, 0)}conv3.conv.weight", 3)[0])
        depths.append(state.count(f"stage_list.{stage}.block_list.{{}}."))
    group_width = state.require_shape(f"{_block(0, 0)}conv2.conv.weight", 3)[1]
    published = EcgFounderConfig()
    is_published = (channels, depths) == (list(published.channels), list(published.depths))
    known = {"stride": published.stride, "use_bn": False} if is_published else None
    told = state.options("stride", "use_bn", published=known)
    if told["use_bn"]:
        raise ConversionError(
            "a network that runs its batch norms is not one of the published ones", value=True
        )

    classes = state.shape("dense.weight")
    settings: dict[str, Any] = {}
    if classes is not None:
        settings["problem_type"] = "multi_label_classification"
        settings["num_labels"] = classes[0]
        if classes[0] == len(LABELS):
            settings["id2label"] = dict(enumerate(LABELS))
            settings["label2id"] = {label: index for index, label in enumerate(LABELS)}
    config = EcgFounderConfig(
        lead_names=_LEADS[leads],
        stem_channels=stem_channels,
        channels=channels,
        depths=depths,
        kernel_size=kernel_size,
        stride=told["stride"],
        group_width=group_width,
        **settings,
    )
    prefix = "" if classes is None else "ecgfounder."
    weights = _encoder(state, config, f"{prefix}encoder.")
    if classes is not None:
        weights["classifier.weight"] = state.take("dense.weight", classes[0], config.hidden_size)
        weights["classifier.bias"] = state.take("dense.bias", classes[0])
    return Converted(config, weights, "model" if classes is None else "classification", _NOTES)


def _encoder(state: OfficialState, config: EcgFounderConfig, target: str) -> dict[str, Tensor]:
    """The network's weights under our names, which begin with ``target``."""
    weights: dict[str, Tensor] = {}

    def take(official: str, ours: str, out: int, *shape: int) -> None:
        weights[f"{target}{ours}.weight"] = state.take(f"{official}.weight", out, *shape)
        weights[f"{target}{ours}.bias"] = state.take(f"{official}.bias", out)

    take("first_conv.conv", "stem", config.stem_channels, config.num_leads, config.kernel_size)
    _ignore_batch_norm(state, "first_bn.")
    before, number = config.stem_channels, 0
    for stage, (width, depth) in enumerate(zip(config.channels, config.depths, strict=True)):
        for index in range(depth):
            official, ours = _block(stage, index), f"blocks.{number}."
            shapes = {
                "conv1": (before, 1),
                "conv2": (config.group_width, config.kernel_size),
                "conv3": (width, 1),
            }
            for name, shape in shapes.items():
                take(f"{official}{name}.conv", ours + _CONVOLUTIONS[name], width, *shape)
            take(f"{official}se_fc1", ours + _LINEAR["se_fc1"], width // 2, width)
            take(f"{official}se_fc2", ours + _LINEAR["se_fc2"], width, width // 2)
            for norm in ("bn1.", "bn2.", "bn3."):
                _ignore_batch_norm(state, official + norm)
            before, number = width, number + 1
    return weights


def _block(stage: int, index: int) -> str:
    return f"stage_list.{stage}.block_list.{index}."


def _ignore_batch_norm(state: OfficialState, prefix: str) -> None:
    for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
        state.ignore(prefix + name)
