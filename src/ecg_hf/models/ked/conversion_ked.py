"""The authors' checkpoint of KED, of which the ECG encoder is kept, to this package's class."""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import Tensor

from ecg_hf.errors import ConversionError
from ecg_hf.models.conversion import Converted, OfficialFiles, OfficialState
from ecg_hf.models.ked.configuration_ked import KedConfig

__all__ = ["FILES", "convert_official"]

FILES = OfficialFiles(
    names=("best_valid_all_increase_with_augment_epoch_3.pt",),
    repository="https://zenodo.org/records/14881564",
    size_bytes=31_463_936,
    parity="fixture, 1e-5: stem, stages, tokens, embedding; keys, shapes and parameters of the published size",
    keys=("2.0.weight", "4.0.convs.0.0.weight", "4.0.idpath.0.0.weight"),
)

_PREFIXES = ("ecg_model.module.", "ecg_model.")
_STEM = 3
_FIRST_STAGE = 4  # of the official nn.Sequential, after the stem and the max-pooling
_WIDTHS = (64, 128, 128, 192)
_LICENCE = (
    "the authors state no licence, neither for code nor for weights: use them where you may, pass nothing on"
)
_NOTE_OTHERS = "beside the ECG encoder were left out: text encoder and network of queries, which are not here"
_NORM = ("weight", "bias", "running_mean", "running_var")


def convert_official(state: OfficialState) -> Converted:
    """Convert the encoder: a bare state dict, or the authors' file, in which it is ``ecg_model``.

    All sizes are read from the shapes. If the configuration tells ``widen`` or ``layers`` they must be the same.

    Args:
        state: The official tensors.

    Raises:
        ConversionError: Sizes can't be read or contradict the configuration, or the two names under which the file
            has each convolution stand for different tensors.
    """
    prefix = next((one for one in _PREFIXES if state.has(one)), "")
    stem = [state.require_shape(f"{prefix}{index}.0.weight", 3) for index in range(_STEM)]
    channels: list[int] = []
    depths: list[int] = []
    out = 0
    while not depths or state.has(_block(prefix, len(depths), 0)):
        first = _block(prefix, len(depths), 0)
        spelling = _spellings(state, first)[0]
        channels.append(state.require_shape(f"{first}{spelling}0.0.weight", 3)[0])
        out = state.require_shape(f"{first}{spelling}2.0.weight", 3)[0]
        depths.append(state.count(f"{prefix}{_FIRST_STAGE + len(depths)}.{{}}."))
    config = KedConfig()
    leads, kernel_size = stem[0][1:]
    if leads != config.num_leads:
        raise ConversionError(f"the network takes {leads} leads, KED takes {config.num_leads}", value=leads)
    _check_told(state, channels, depths)
    config = KedConfig(
        stem_channels=[width for width, *_ in stem],
        channels=channels,
        depths=depths,
        expansion=out // max(channels[-1], 1),
        kernel_size=kernel_size,
    )
    weights = _encoder(state, prefix, config)
    others = state.ignore_outside(prefix)
    notes = (_LICENCE,) if not others else (_LICENCE, f"{others} tensors {_NOTE_OTHERS}")
    return Converted(config, weights, "model", notes)


def _block(prefix: str, stage: int, index: int) -> str:
    return f"{prefix}{_FIRST_STAGE + stage}.{index}."


def _spellings(state: OfficialState, block: str) -> list[str]:
    """The names that a block's convolutions have in the file: the official one has both, for the same tensors."""
    both = ("convs.", "convpath.0.")
    return [name for name in both if state.has(block + name)] or list(both)


def _check_told(state: OfficialState, channels: list[int], depths: list[int]) -> None:
    """Refuse a file that is not what the configuration says; values may be numbers or their text."""
    told = state.options("widen", "layers", published={"widen": None, "layers": None})
    try:
        values = {
            name: json.loads(value) if isinstance(value, str) else value for name, value in told.items()
        }
        widths = None if values["widen"] is None else [int(width * values["widen"]) for width in _WIDTHS]
    except (TypeError, ValueError):
        raise ConversionError("widen must be a number and layers a list of them", value=told) from None
    expected: tuple[tuple[str, Any, list[int]], ...] = (
        ("widen", widths, channels),
        ("layers", values["layers"], depths),
    )
    for name, said, found in expected:
        if said is not None and said != found:
            raise ConversionError(
                f"{name} {told[name]} of the configuration is not what the file holds: {found}",
                value=told[name],
            )


def _encoder(state: OfficialState, prefix: str, config: KedConfig) -> dict[str, Tensor]:
    """The network's weights under our names."""
    weights: dict[str, Tensor] = {}

    def take(official: list[str], ours: str, width: int, *inside: int) -> None:
        """A convolution and its batch norm, which the file may have under two names."""
        shapes = {"0.weight": (width, *inside), **{f"1.{name}": (width,) for name in _NORM}}
        shapes["1.num_batches_tracked"] = ()
        for name, shape in shapes.items():
            keys = [key + name for key in official]
            found = [state.take(key, *shape) for key in keys]
            complete = all(state.shape(key) == shape for key in keys)
            if complete and not torch.equal(found[0].nan_to_num(), found[-1].nan_to_num()):
                raise ConversionError(
                    f"{keys[0]} and {keys[-1]} are the same tensor in the network, but differ in the file",
                    value=keys[0],
                )
            weights[f"encoder.{ours}{name}"] = found[0]

    before, kernel = config.num_leads, config.kernel_size
    for index, width in enumerate(config.stem_channels):
        take([f"{prefix}{index}."], f"stem.{index}.", width, before, kernel)
        before = width
    number = 0
    for stage, (narrow, depth) in enumerate(zip(config.channels, config.depths, strict=True)):
        out = narrow * config.expansion
        for index in range(depth):
            block, ours = _block(prefix, stage, index), f"blocks.{number}."
            names = [block + spelling for spelling in _spellings(state, block)]
            shapes = ((narrow, before, 1), (narrow, narrow, kernel), (out, narrow, 1))
            for place, shape in enumerate(shapes):
                take([f"{name}{place}." for name in names], f"{ours}convolutions.{place}.", *shape)
            if before != out:
                # Where the block has a stride the average comes before the projection.
                place = 1 if stage > 0 and index == 0 else 0
                take([f"{block}idpath.{place}."], f"{ours}shortcut.{place}.", out, before, 1)
            before, number = out, number + 1
    return weights
