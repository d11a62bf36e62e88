"""Registers all methods with ``transformers``, each kind of class as soon as both it and its Auto class are imported.

An Auto class that is imported loads our classes; a module of ours registers its classes when both it and the Auto
class are complete, and never imports that: it would bring torch along, which feature extractors do without. Either
may be what imports the other, so neither ever looks into a half-imported module: a module of ours that is being
imported when its Auto class arrives is left to its own hook.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from importlib import import_module
from types import ModuleType
from typing import Any

import wrapt

from ecg_hf.models.registry import AUTO_CLASSES, METHODS, ClassRole, MethodSpec

__all__ = ["install_import_hooks"]

_AUTO = "transformers.models.auto."
_AUTO_MODULES: dict[ClassRole, str] = {
    "config": _AUTO + "configuration_auto",
    "model": _AUTO + "modeling_auto",
    "feature_extractor": _AUTO + "feature_extraction_auto",
}


_arrived: set[ClassRole] = set()
"""Roles whose Auto class is there."""

_complete: set[tuple[ClassRole, str]] = set()
"""Role and method of each module of ours that is there."""


def _finish(role: ClassRole, spec: MethodSpec, _: ModuleType) -> None:
    """A module of ours is complete: register its classes, or leave that to the Auto class."""
    _complete.add((role, spec.name))
    if role in _arrived:
        _register(role, spec)


def _register(role: ClassRole, spec: MethodSpec) -> None:
    auto = import_module(_AUTO_MODULES[role])
    config = spec.load("config")
    if role == "config":
        auto.AutoConfig.register(spec.name, config, exist_ok=True)
        if spec.official_type:
            # Not by ``AutoConfig.register``, which wants the type to be the class's own.
            auto.CONFIG_MAPPING.register(spec.official_type, config, exist_ok=True)
    elif role == "feature_extractor":
        auto.AutoFeatureExtractor.register(config, spec.load(role), exist_ok=True)
    else:
        heads: tuple[ClassRole, ...] = ("model", "pretraining", "classification")
        for head in heads:
            if head in spec.roles:
                getattr(auto, AUTO_CLASSES[head]).register(config, spec.load(head), exist_ok=True)


def _load(role: ClassRole, _: ModuleType) -> None:
    """An Auto class is there: load our modules of its kind, except those whose import is what asked for it."""
    _arrived.add(role)
    for spec in METHODS.values():
        if (role, spec.name) in _complete:
            _register(role, spec)
        elif spec.module_name(role) not in sys.modules:
            import_module(spec.module_name(role))


def _register_base_feature_extractor(auto: ModuleType) -> None:
    from ecg_hf.models.configuration import EcgConfig
    from ecg_hf.processing.feature_extraction import EcgFeatureExtractor

    auto.AutoFeatureExtractor.register(EcgConfig, EcgFeatureExtractor, exist_ok=True)
    _extractors_of_official_folders(auto)


def _extractors_of_official_folders(auto: ModuleType) -> None:
    """An authors' folder of a method here has no ``preprocessor_config.json``: its configuration says the same."""

    def load(original: Callable[..., Any], _: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        try:
            return original(*args, **kwargs)
        except OSError:
            from ecg_hf.models.official_layout import official_feature_extractor

            extractor = official_feature_extractor(*args, **kwargs)
            if extractor is None:
                raise
            return extractor

    wrapt.wrap_function_wrapper(auto, "AutoFeatureExtractor.from_pretrained", load)


def _register_processors(auto: ModuleType) -> None:
    from ecg_hf.processing.processor import EcgProcessor

    for spec in METHODS.values():
        if spec.multimodal:
            auto.AutoProcessor.register(spec.load("config"), EcgProcessor, exist_ok=True)


def _register_pipelines(pipelines: ModuleType) -> None:
    from ecg_hf.pipelines.registration import register_pipelines

    register_pipelines()


def _register_ecg_column(datasets: ModuleType) -> None:
    import ecg_hf.data.feature  # noqa: F401  (registers itself)


def _register_ecgfolder(packaged: ModuleType) -> None:
    """``load_dataset("ecgfolder")``, by name: the builder is imported when it is first asked for.

    ``datasets`` has a table of its own builders and no door for those of others. The version is in the hash, so what
    an older reader read is not taken from the cache.
    """
    from ecg_hf import __version__

    digest = sha256(f"ecgfolder {__version__}".encode()).hexdigest()
    packaged._PACKAGED_DATASETS_MODULES.setdefault("ecgfolder", ("ecg_hf.data.ecgfolder", digest))


def _run_no_code_of_our_repositories(dynamic: ModuleType) -> None:
    """Whatever Auto class or pipeline asks for it, also with ``trust_remote_code=True``."""
    name = "get_class_from_dynamic_module"

    def refuse_ours(
        load: Callable[..., type], _: object, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> type:
        from ecg_hf.models.safe_loading import refuse_code_of

        given = {
            **dict(zip(("class_reference", "pretrained_model_name_or_path"), args, strict=False)),
            **kwargs,
        }
        options = {key: value for key, value in given.items() if key != "class_reference"}
        refuse_code_of(options.pop("pretrained_model_name_or_path"), given["class_reference"], **options)
        return load(*args, **kwargs)

    original = getattr(dynamic, name)
    wrapped = wrapt.FunctionWrapper(original, refuse_ours)
    setattr(dynamic, name, wrapped)
    # Modules that were imported before have it by name.
    for module_name, module in list(sys.modules.items()):
        if module_name.startswith("transformers.") and vars(module).get(name) is original:
            setattr(module, name, wrapped)


def install_import_hooks() -> None:
    """Register with what is imported already, and with the rest as soon as it is."""
    for role, auto_module in _AUTO_MODULES.items():
        for spec in METHODS.values():
            wrapt.register_post_import_hook(partial(_finish, role, spec), spec.module_name(role))
        wrapt.register_post_import_hook(partial(_load, role), auto_module)
    for module_name, hook in {
        _AUTO + "feature_extraction_auto": _register_base_feature_extractor,
        _AUTO + "processing_auto": _register_processors,
        "transformers.pipelines": _register_pipelines,
        "datasets": _register_ecg_column,
        "datasets.packaged_modules": _register_ecgfolder,
        "transformers.dynamic_module_utils": _run_no_code_of_our_repositories,
    }.items():
        wrapt.register_post_import_hook(hook, module_name)
