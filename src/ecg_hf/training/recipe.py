"""Recipes: all settings of a training run in one YAML file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from ecg_hf.errors import ConfigurationError
from ecg_hf.models.registry import MethodSpec, get_method
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
        text = path.read_text(encoding="utf-8")
    elif str(name) in list_recipes():
        text = (resources.files(_FOLDER) / f"{name}.yaml").read_text(encoding="utf-8")
    else:
        raise ConfigurationError(
            f"unknown recipe {str(name)!r}; known: {', '.join(list_recipes())}", value=str(name)
        )
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigurationError(f"not a YAML file: {' '.join(str(error).split())}", path=path) from None
    return _checked(path, content)


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


def _checked(path: Path, content: object) -> Recipe:
    if not isinstance(content, Mapping):
        raise ConfigurationError("a recipe is a mapping with method, model and training", path=path)
    unknown = sorted(set(content) - {"method", "model", "training", "feature_extractor", "text_model"})
    if unknown:
        raise ConfigurationError(f"unknown entries {', '.join(map(str, unknown))}", path=path, value=unknown)
    method = get_method(str(content.get("method")))
    model, training = dict(content.get("model") or {}), dict(content.get("training") or {})
    size = str(model.pop("size", method.sizes[0]))
    if size not in method.sizes:
        raise ConfigurationError(
            f"{method.name} has no size {size!r}; known: {', '.join(method.sizes)}", path=path, value=size
        )
    known = {entry.name for entry in fields(EcgPreTrainingArguments)}
    unknown = sorted(set(training) - known)
    if unknown:
        raise ConfigurationError(f"unknown training settings {', '.join(unknown)}", path=path, value=unknown)
    text = [key for key, value in training.items() if isinstance(value, str) and _is_number(value)]
    if text:
        # YAML reads 2e-4 as text and 2.0e-4 as a number.
        raise ConfigurationError(
            f"{text[0]}: {training[text[0]]!r} is text in YAML; write a decimal point as in 2.0e-4", path=path
        )
    extractor = dict(content.get("feature_extractor") or {})
    return Recipe(path.stem, method.name, size, model, training, extractor, content.get("text_model"))


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True
