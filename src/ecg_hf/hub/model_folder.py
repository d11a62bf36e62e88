"""A model folder as others will see it: which files belong to it, and whether they load."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoFeatureExtractor

from ecg_hf.errors import EcgError, ModelFolderError
from ecg_hf.models.registry import ClassRole, MethodSpec, get_method
from ecg_hf.models.shared_files import CARD_FILE, model_files
from ecg_hf.progress import without_progress_bars

__all__ = ["CARD_FILE", "ModelFolder", "model_files", "open_model_folder"]


@dataclass(frozen=True, slots=True, eq=False)
class ModelFolder:
    """A model folder that loads.

    Attributes:
        path: The folder.
        spec: The method.
        role: What kind of model it is.
        model: The model, in evaluation mode.
        feature_extractor: Its feature extractor.
        files: Files that belong to the model, sorted.
    """

    path: Path
    spec: MethodSpec
    role: ClassRole
    model: Any
    feature_extractor: Any
    files: tuple[Path, ...]

    @property
    def has_tokenizer(self) -> bool:
        """Whether texts can be prepared too."""
        return any(file.name == "tokenizer_config.json" for file in self.files)


def open_model_folder(path: str | Path) -> ModelFolder:
    """Load a folder with this package's classes, running no code from it.

    Raises:
        ModelFolderError: It is not a model folder of this package, lacks safetensors or a feature extractor, or its
            weights don't fit its configuration.
    """
    folder = Path(path)
    if not (folder / "config.json").is_file():
        raise ModelFolderError("not a model folder: it has no config.json", path=folder)
    files = model_files(folder)
    if not any(file.suffix == ".safetensors" for file in files):
        raise ModelFolderError("no weights in model.safetensors", path=folder)
    if not (folder / "preprocessor_config.json").is_file():
        raise ModelFolderError(
            "no preprocessor_config.json: save the feature extractor beside the model", path=folder
        )
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        spec = get_method(config.model_type)
        role = _role(spec, config, folder)
        with without_progress_bars():
            model, info = spec.load(role).from_pretrained(
                folder, output_loading_info=True, use_safetensors=True
            )
        extractor = AutoFeatureExtractor.from_pretrained(folder, trust_remote_code=False)
    except EcgError as error:
        error.path = error.path or str(folder)
        raise
    # For damaged files the libraries raise almost any built-in exception.
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelFolderError(f"can't load the model: {reason}", path=folder) from error
    wrong = [*info["missing_keys"], *info["unexpected_keys"], *info["mismatched_keys"]]
    if wrong:
        raise ModelFolderError(
            f"{len(wrong)} weights are missing, left over or of the wrong shape, first {min(map(str, wrong))}",
            path=folder,
        )
    return ModelFolder(folder, spec, role, model.eval(), extractor, files)


def _role(spec: MethodSpec, config: Any, folder: Path) -> ClassRole:
    names = config.architectures or []
    for role in spec.roles:
        if spec.class_name(role) in names:
            return role
    raise ModelFolderError(
        f"config.json names no model class of {spec.name} in 'architectures': {names}", path=folder
    )
