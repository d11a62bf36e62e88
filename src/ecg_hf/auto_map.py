"""What leads from a saved folder back to this package: ``auto_map`` entries and a module of one line.

``AutoModel.from_pretrained("org/x", trust_remote_code=True)`` then works where the package is installed but was not
imported, and names the package to install where it is not. Where it was imported, the Auto classes know its classes
already and run nothing from the repository.

The line imports the package's own ``__getattr__``, which finds classes by name. So it is the same in every
repository, whatever is saved there first or last, and holds no code of a method.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ecg_hf.files import write_whole

__all__ = ["SHIM_FILE", "SHIM_LINE", "LeadsToPackage", "lead_to_package", "without_shim"]

_MODULE = "ecg_hf_shim"

SHIM_FILE = f"{_MODULE}.py"
"""Name of the module in a saved folder."""

SHIM_LINE = "from ecg_hf import __getattr__  # every class of this repository is in the package ecg-hf, to be installed\n"  # noqa: E501
"""All of it."""

_SAVED_NAMES = ("config.json", "preprocessor_config.json", "processor_config.json")


class LeadsToPackage:
    """Mixin of classes that are saved as a JSON file in a model folder: the file says where its class is."""

    def auto_classes(self) -> dict[str, str]:
        """Names of this package's classes by the Auto class that should load them; none for classes of others."""
        return {}

    def to_json_file(self, json_file_path: str | os.PathLike[str], *args: Any, **kwargs: Any) -> None:
        """As the library's; a file of the name it is loaded by gets the ``auto_map``, its folder the module."""
        super().to_json_file(json_file_path, *args, **kwargs)  # type: ignore[misc]
        path = Path(json_file_path)
        classes = self.auto_classes() if path.name in _SAVED_NAMES and _is_ours(type(self)) else {}
        if classes:
            lead_to_package(path, classes)

    @classmethod
    def register_for_auto_class(cls, *args: Any, **kwargs: Any) -> None:
        """Nothing for classes of this package: the library would copy their source file into every folder saved.

        Loading with ``trust_remote_code=True`` calls this.
        """
        if not _is_ours(cls):
            super().register_for_auto_class(*args, **kwargs)  # type: ignore[misc]


def lead_to_package(path: Path, classes: Mapping[str, str]) -> None:
    """Write the ``auto_map`` into a JSON file and the module beside it.

    Args:
        path: ``config.json``, ``preprocessor_config.json`` or ``processor_config.json`` of a model folder.
        classes: Names of this package's classes by Auto class.
    """
    content = json.loads(path.read_text(encoding="utf-8"))
    content["auto_map"] = {auto: f"{_MODULE}.{name}" for auto, name in classes.items()}
    inner = content.get("feature_extractor")
    if isinstance(inner, dict) and "feature_extractor_type" in inner:
        # A processor's file holds its feature extractor, and is read before the latter's own file.
        inner["auto_map"] = {"AutoFeatureExtractor": f"{_MODULE}.{inner['feature_extractor_type']}"}
    write_whole(path, json.dumps(content, indent=2, sort_keys=True) + "\n")
    write_whole(path.with_name(SHIM_FILE), SHIM_LINE)


def without_shim(options: dict[str, Any]) -> dict[str, Any]:
    """Loaded options without what :class:`LeadsToPackage` wrote among them, so that they equal those saved."""
    auto_map = options.get("auto_map")
    if not isinstance(auto_map, dict):
        return options
    others = {auto: name for auto, name in auto_map.items() if not str(name).startswith(f"{_MODULE}.")}
    options = {key: value for key, value in options.items() if key != "auto_map"}
    return {**options, "auto_map": others} if others else options


def _is_ours(cls: type) -> bool:
    return cls.__module__.partition(".")[0] == "ecg_hf"
