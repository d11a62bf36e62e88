"""Recipes: all settings of a training run in one YAML file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import Any, NotRequired, TypedDict, get_type_hints

from ecg_hf.documents import check, parse_yaml, read_text
from ecg_hf.errors import ConfigurationError, ModelFolderError
from ecg_hf.models.registry import MethodSpec, get_method
from ecg_hf.models.safe_loading import check_config_values
from ecg_hf.training.arguments import EcgPreTrainingArguments

__all__ = ["Recipe", "list_recipes", "load_recipe", "recipe_for"]

_FOLDER = "ecg_hf.training.recipes"


@dataclass(frozen=True, slots=True)
class Recipe:
    """Settings of a pretraining run.

    Attributes:
        name: File name without ending.
        method: Name in the registry.
        size: Preset of the method's configuration.
        model: Further fields of the configuration.
        training: Fields of :class:`EcgPreTrainingArguments`.
        feature_extractor: Fields of the method's feature extractor.
        text_model: Pretrained text tower, or None to train one from the corpus' reports.
    """

    name: str
    method: str
    size: str
    model: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    feature_extractor: dict[str, Any] = field(default_factory=dict)
    text_model: str | None = None

    def model_options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Fields of the configuration: the recipe's, over them a variant's, over these what was given.

        A variant asked for by name stands above the recipe, or a recipe would undo an ablation without a word.

        Args:
            given: Fields; ``variant`` names several.

        Raises:
            ConfigurationError: if the method has no such variant.
        """
        fields = dict(given)
        variant = get_method(self.method).load("config").variant_fields(fields.pop("variant", "full"))
        return {**self.model, **variant, **fields}


def list_recipes() -> list[str]:
    """Names of the recipes that come with the package."""
    files = resources.files(_FOLDER).iterdir()
    return sorted(file.name.removesuffix(".yaml") for file in files if file.name.endswith(".yaml"))


def load_recipe(name: str | Path) -> Recipe:
    """Read a recipe.

    Args:
        name: One of :func:`list_recipes`, or the path of a YAML file.

    Raises:
        ConfigurationError: There is no such recipe, or it holds something a recipe can't hold.
    """
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise ConfigurationError("recipe not found", path=path)
        text = read_text(path)
    elif str(name) in list_recipes():
        text = (resources.files(_FOLDER) / f"{name}.yaml").read_text(encoding="utf-8")
    else:
        raise ConfigurationError(
            f"unknown recipe {str(name)!r}; known: {', '.join(list_recipes())}", value=str(name)
        )
    return _checked(path, parse_yaml(text, path=path))


def recipe_for(method: MethodSpec, recipe: str | Path | Recipe | None) -> Recipe:
    """The recipe to train a method by; without one, the library's defaults at the smallest size.

    Raises:
        ConfigurationError: There is no such recipe, or it is another method's.
    """
    if recipe is None:
        return Recipe("defaults", method.name, method.sizes[0])
    recipe = load_recipe(recipe) if isinstance(recipe, (str, Path)) else recipe
    if recipe.method != method.name:
        raise ConfigurationError(
            f"recipe {recipe.name} is for {recipe.method}, not {method.name}", value=recipe.name
        )
    return recipe


class _Content(TypedDict):
    """Entries of a recipe's file."""

    method: str
    model: NotRequired[dict[str, Any] | None]
    training: NotRequired[dict[str, Any] | None]
    feature_extractor: NotRequired[dict[str, Any] | None]
    text_model: NotRequired[str | None]


def _checked(path: Path, content: object) -> Recipe:
    if not isinstance(content, Mapping):
        raise ConfigurationError("a recipe is a mapping with method, model and training", path=path)
    unknown = sorted(set(content) - set(_Content.__annotations__), key=str)
    if unknown:
        raise ConfigurationError(f"unknown entries {', '.join(map(str, unknown))}", path=path, value=unknown)
    entries: _Content = check(content, _Content, path=path)
    method = get_method(entries["method"])
    model = dict(entries.get("model") or {})
    size = str(model.pop("size", method.sizes[0]))
    if size not in method.sizes:
        raise ConfigurationError(
            f"{method.name} has no size {size!r}; known: {', '.join(method.sizes)}", path=path, value=size
        )
    try:
        check_config_values(model, method.load("config"), path)
    except ModelFolderError as error:
        reason = error.message.removeprefix("config.json: ")
        raise ConfigurationError(f"model: {reason}", path=path, value=error.value) from None
    training = _training_settings(entries.get("training") or {}, path)
    extractor = dict(entries.get("feature_extractor") or {})
    return Recipe(path.stem, method.name, size, model, training, extractor, entries.get("text_model"))


def _training_settings(training: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The training settings, if a recipe may make all of them and their values are of the right types.

    A recipe may be a stranger's: it says how to train, and never where results go, to whom, or which other files are
    opened. Those are for the command line.
    """
    known = get_type_hints(EcgPreTrainingArguments)
    unknown = sorted(set(training) - {entry.name for entry in fields(EcgPreTrainingArguments)})
    if unknown:
        raise ConfigurationError(f"unknown training settings {', '.join(unknown)}", path=path, value=unknown)
    for name, value in training.items():
        if name in _NOT_FOR_RECIPES or name.startswith(_NOT_FOR_RECIPES_BEGINNINGS):
            raise ConfigurationError(
                f"training.{name} is not for a recipe to say: give it on the command line",
                path=path,
                value=name,
            )
        if name in _SETTINGS_OR_FILE and isinstance(value, str):
            raise ConfigurationError(
                f"training.{name} must be settings, not the name of a file", path=path, value=value
            )
        if isinstance(value, str) and _is_number(value):
            # YAML reads 2e-4 as text and 2.0e-4 as a number.
            raise ConfigurationError(
                f"{name}: {value!r} is text in YAML; write a decimal point as in 2.0e-4", path=path
            )
        check(value, known[name], path=path, name=f"training.{name}")
    return dict(training)


_NOT_FOR_RECIPES_BEGINNINGS = ("hub_", "push_to_hub", "trackio_")
_NOT_FOR_RECIPES = frozenset(
    {
        *("output_dir", "logging_dir", "overwrite_output_dir", "report_to", "run_name", "project"),
        *("resume_from_checkpoint", "ignore_data_skip", "deepspeed", "local_rank", "debug"),
        *("do_train", "do_eval", "do_predict", "log_level", "log_level_replica"),
    }
)
_SETTINGS_OR_FILE = ("accelerator_config", "fsdp_config", "parallelism_config", "liger_kernel_config")


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True
