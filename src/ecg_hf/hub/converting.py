"""From an official checkpoint to a complete model folder."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError

from ecg_hf.errors import ConfigurationError, ConversionError, EcgError
from ecg_hf.files import replace_folder
from ecg_hf.hub.card import write_model_card
from ecg_hf.hub.card_context import CardContext
from ecg_hf.hub.official_checkpoint import OfficialCheckpoint, read_official_checkpoint
from ecg_hf.models.conversion import Converted, OfficialFiles, OfficialState
from ecg_hf.models.registry import METHODS, MethodSpec, get_method
from ecg_hf.models.safe_loading import check_config_values
from ecg_hf.progress import without_progress_bars

__all__ = [
    "ConversionReport",
    "convert_checkpoint",
    "converter_options",
    "list_official_files",
    "recognise_checkpoint",
    "second_files",
]

_ON_THE_HUB = re.compile(r"https://huggingface\.co/([\w.-]+/[\w.-]+)")


@dataclass(frozen=True, slots=True)
class ConversionReport:
    """What a conversion did.

    Attributes:
        model: Name of the method.
        model_class: Class of the converted weights.
        output_dir: The model folder.
        parameters: Parameters of the model.
        tensors: Official tensors read.
        facts: Counters found beside them.
        ignored: Entries of the checkpoint that are not weights.
        notes: What a user should know, such as parts the checkpoint did not have.
        sha256: Of the official file.
    """

    model: str
    model_class: str
    output_dir: str
    parameters: int
    tensors: int
    facts: dict[str, Any]
    ignored: tuple[str, ...]
    notes: tuple[str, ...]
    sha256: str

    def summary(self) -> str:
        """A few lines for a reader."""
        lines = [
            f"{self.model_class} with {self.parameters:,} parameters from {self.tensors} official tensors, "
            f"in {self.output_dir}"
        ]
        if self.ignored:
            lines.append(f"not weights, left out: {', '.join(self.ignored)}")
        return "\n".join([*lines, *self.notes])


def list_official_files() -> list[dict[str, Any]]:
    """Of each method whose authors' weights convert: what they publish, where, under which licence; parity."""
    return [
        {
            "name": name,
            "files": list(files.names),
            "repository": files.repository,
            "licence": METHODS[name].official_weights,
            "size_bytes": files.size_bytes,
            "parity": files.parity,
        }
        for name, files in _official_files().items()
    ]


def _official_files() -> dict[str, OfficialFiles]:
    return {
        name: spec.load_converter().FILES
        for name, spec in METHODS.items()
        if spec.official_weights is not None
    }


def recognise_checkpoint(source: str | Path) -> tuple[str, str]:
    """Which method a file is of, by its keys alone.

    Args:
        source: The official file.

    Returns:
        The method's name, and the reason in words.

    Raises:
        ConversionError: if the file can't be read safely, or its keys are those of no method.
    """
    allowed = {
        kind
        for spec in METHODS.values()
        if spec.official_weights is not None
        for kind in getattr(spec.load_converter(), "ALLOWED_GLOBALS", ())
    }
    keys = read_official_checkpoint(source, tuple(allowed)).tensors.keys()
    found = [
        (sum(map(len, ends)), name, ends)
        for name, files in _official_files().items()
        for ends in (files.keys, *files.part_keys)
        if all(any(f".{key}".endswith(f".{end}") for key in keys) for end in ends)
    ]
    if found:
        # Keys of one method may be those of another behind a prefix: longer ones say more.
        _, name, ends = max(found, key=lambda entry: entry[0])
        return name, f"it has the keys {', '.join(ends)}, which only files of {name} have"
    first = ", ".join(list(keys)[:3])
    raise ConversionError(
        f"not recognised: no method's weights have such keys, which begin with {first}", path=source
    )


def converter_options(method: str) -> tuple[str, ...]:
    """Names of the options of a method's converter, such as ``num_attention_heads``."""
    parameters = inspect.signature(get_method(method).load_converter().convert_official).parameters
    return tuple(name for name, value in parameters.items() if value.kind is value.KEYWORD_ONLY)


def second_files(method: str) -> tuple[str, ...]:
    """Those of :func:`converter_options` that name another file of the authors', such as ``vqhbr``."""
    return tuple(getattr(get_method(method).load_converter(), "SECOND_FILES", ()))


def convert_checkpoint(
    method: str,
    source: str | Path,
    target: str | Path,
    *,
    overwrite: bool = False,
    config: Mapping[str, Any] | None = None,
    **options: Any,
) -> ConversionReport:
    """Convert the authors' weights on the user's machine; they are never redistributed.

    Writes configuration, safetensors, preprocessor configuration and a card that names origin and licence, and checks
    that the folder loads before it is renamed to ``target``.

    Args:
        method: Name in the registry.
        source: The official file.
        target: Folder to write.
        overwrite: Replace an existing folder.
        config: Sizes that tensors don't tell, under the authors' names; over those that the file itself tells.
        options: See :func:`converter_options`; paths for those of :func:`second_files`.

    Raises:
        EcgError: The method has no official weights, the file can't be read safely, its keys or shapes do not fit, or
            an option that the shapes don't determine is missing.
    """
    spec = get_method(method)
    converter = spec.load_converter()
    known = converter_options(method)
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ConfigurationError(
            f"{method} has no conversion option {unknown[0]}; it has: {', '.join(known) or 'none'}",
            value=unknown[0],
        )
    target = Path(target)
    if target.exists() and not overwrite:
        raise ConfigurationError("exists already: overwrite it or choose another folder", path=target)
    allowed = getattr(converter, "ALLOWED_GLOBALS", ())
    checkpoint = read_official_checkpoint(source, allowed)
    others = {
        name: read_official_checkpoint(options[name], allowed)
        for name in second_files(method)
        if name in options
    }
    state, *rest = (
        OfficialState(one.tensors, {**one.config, **(config or {})}) for one in (checkpoint, *others.values())
    )
    options |= dict(zip(others, rest, strict=True))
    try:
        converted: Converted = converter.convert_official(state, **options)
        for one in (state, *rest):
            one.finish()
    except EcgError as error:
        raise ConversionError(error.message, path=source, value=error.value) from None
    except StrictDataclassError as error:  # a size of the wrong type
        raise ConversionError(" ".join(str(error).split()), path=source) from None
    # A file may ask for sizes that no tensor of it bounds.
    check_config_values(converted.config.to_dict(), type(converted.config), source)
    _check_finite(converted, source)
    beside = {f"sha256 of the file of {name}": f"`{other.sha256}`" for name, other in others.items()}

    model = spec.load(converted.role)(converted.config)
    model.load_state_dict(converted.state_dict)
    with replace_folder(target, overwrite=overwrite) as partial:
        _write_folder(spec, model, converted, checkpoint, Path(source).name, partial, beside)
        _check_reloads(spec, converted, partial)
    return ConversionReport(
        model=method,
        model_class=type(model).__name__,
        output_dir=str(target),
        parameters=model.num_parameters(),
        tensors=sum(len(one.tensors) for one in (checkpoint, *others.values())),
        facts=checkpoint.facts,
        ignored=checkpoint.ignored,
        notes=converted.notes,
        sha256=checkpoint.sha256,
    )


def _check_finite(converted: Converted, source: str | Path) -> None:
    broken = [
        key
        for key, value in converted.state_dict.items()
        if value.is_floating_point() and not torch.isfinite(value).all()
    ]
    if broken:
        raise ConversionError(
            f"{len(broken)} tensors are not finite, the first is {broken[0]}", path=source, value=broken
        )


def _write_folder(
    spec: MethodSpec,
    model: Any,
    converted: Converted,
    checkpoint: OfficialCheckpoint,
    source: str,
    folder: Path,
    beside: Mapping[str, str],
) -> None:
    with without_progress_bars():
        model.save_pretrained(folder)
    extractor = spec.feature_extractor_for(converted.config, **converted.extractor)
    extractor.save_pretrained(folder)
    origin = _ON_THE_HUB.fullmatch(spec.load_converter().FILES.repository)
    provenance = {
        "origin": f"converted from the authors' checkpoint `{source}`; nothing was trained here",
        "sha256 of that file": f"`{checkpoint.sha256}`",
        **beside,
        **{f"checkpoint's {name}": str(value) for name, value in checkpoint.facts.items()},
        **{f"note {number}": note for number, note in enumerate(converted.notes, start=1)},
    }
    context = CardContext(
        model_name=f"{spec.name}, authors' weights converted",
        dataset="the authors' pretraining data",
        data_licence="see the authors' publication",
        training=provenance,
        weights_licence=spec.official_weights,
        extra={"base_model": origin[1]} if origin else {},
    )
    write_model_card(folder, model, extractor, context)


def _check_reloads(spec: MethodSpec, converted: Converted, folder: Path) -> None:
    """Load what was written; every weight must be present and equal."""
    loaded, info = spec.load(converted.role).from_pretrained(folder, output_loading_info=True)
    state = loaded.state_dict()
    wrong = [
        *info["missing_keys"],
        *info["unexpected_keys"],
        *(key for key, value in converted.state_dict.items() if not torch.equal(state[key], value)),
    ]
    if wrong:
        raise ConversionError(f"the converted folder does not load as written: {wrong[0]}", value=wrong)
