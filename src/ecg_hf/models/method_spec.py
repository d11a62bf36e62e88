"""What the registry says of a method, and where its classes are, without importing them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from types import ModuleType
from typing import Any, Literal, get_args

from ecg_hf.errors import ConfigurationError
from ecg_hf.signal.leads import STANDARD_LEADS

__all__ = ["AUTO_CLASSES", "ROLES", "ClassRole", "MethodSpec"]

ClassRole = Literal["config", "feature_extractor", "model", "pretraining", "classification", "trainer"]

ROLES: tuple[ClassRole, ...] = get_args(ClassRole)

_OF_PRETRAINING: tuple[ClassRole, ...] = ("pretraining", "trainer")

_OWN = "this package's own"

_SUFFIXES: dict[ClassRole, str] = {
    "config": "Config",
    "feature_extractor": "FeatureExtractor",
    "model": "Model",
    "pretraining": "ForPreTraining",
    "classification": "ForEcgClassification",
    "trainer": "Trainer",
}


AUTO_CLASSES: dict[ClassRole, str] = {
    "config": "AutoConfig",
    "feature_extractor": "AutoFeatureExtractor",
    "model": "AutoModel",
    "pretraining": "AutoModelForPreTraining",
    "classification": "AutoModelForAudioClassification",
}
"""The library's Auto class that loads the class in a role."""


@dataclass(frozen=True, slots=True)
class MethodSpec:
    """One method, described without importing it.

    Attributes:
        name: As on the command line and in ``config.model_type``.
        class_prefix: Common beginning of its class names.
        title: For a reader: the method's own name, a colon, what it does.
        paper: arXiv identifier, or DOI where there is no preprint; empty for a method of this package.
        official_code: Address of the authors' code, or None if there is none.
        status: What is from the paper, what is inferred, what parity was shown.
        multimodal: Whether it has a text tower.
        sizes: Names of its presets, smallest first.
        leads: Leads its models take as they are preset. One of them is enough, the others are masked; a limb lead
            also follows from two others.
        supervision: What it learns from: ``signals``, ``signals and reports`` and the like.
        use: When to choose it: a phrase for README's table.
        licence: Licence of weights trained with this package's code from scratch.
        official_weights: Licence of the authors' weights; None where there are none to convert.
        official_type: ``model_type`` of the authors' own folders, if there are any that the Auto classes load too.
        family: Folder of the family that it is a member of, with its ``configuration_<name>.py`` and
            ``modeling_<name>.py``; its feature extractor is in the family's ``feature_extraction.py``.
        pretrainable: Whether its objective is here. Without, a method is an encoder and a classifier for the authors'
            weights: it has no ``ForPreTraining``, no trainer and no recipe.
        python_name: Of its modules, recipes and card, where the name with underscores is none Python knows.
        modules: Where its classes are, if not in a folder of three files that has the method's name: one module for
            all of them, such as ``ecg_hf.models.joint_embedding.simclr``, or one per role that is elsewhere. The
            ``convert_official`` of a method in one module is in that module too.
        other_names: Names that mean it too, on the command line and in recipes.
        trainer: Module that defines its trainer; empty where :class:`ecg_hf.training.EcgPreTrainer` does everything.
    """

    name: str
    class_prefix: str
    title: str
    paper: str
    official_code: str | None
    status: str
    multimodal: bool
    sizes: tuple[str, ...]
    leads: tuple[str, ...] = STANDARD_LEADS
    supervision: str = "signals"
    use: str = ""
    licence: str = "apache-2.0"
    official_weights: str | None = None
    official_type: str = ""
    family: str = ""
    pretrainable: bool = True
    python_name: str = ""
    modules: str | Mapping[ClassRole, str] = field(default="", hash=False)
    other_names: tuple[str, ...] = ()
    trainer: str = ""

    @property
    def module(self) -> str:
        """The name with underscores: of its folder, its recipes and its card."""
        return self.python_name or self.name.replace("-", "_")

    @property
    def short_title(self) -> str:
        """The method's name as people write it, such as ``CG-DMER``."""
        return self.title.partition(":")[0]

    @property
    def paper_name(self) -> str:
        """The paper's identifier with its kind, such as ``arXiv:2410.08559``; whose the method is if it has none."""
        if not self.paper:
            return _OWN
        return f"{'doi' if self._has_doi else 'arXiv'}:{self.paper}"

    @property
    def paper_url(self) -> str:
        """Where the paper is; empty if there is none."""
        if not self.paper:
            return ""
        return f"https://{'doi.org' if self._has_doi else 'arxiv.org/abs'}/{self.paper}"

    @property
    def _has_doi(self) -> bool:
        return self.paper.startswith("10.")

    @property
    def roles(self) -> tuple[ClassRole, ...]:
        """What it has classes for."""
        return tuple(role for role in ROLES if self.pretrainable or role not in _OF_PRETRAINING)

    @property
    def whole(self) -> ClassRole:
        """The role whose class holds all weights of the method: the encoder where it is all there is."""
        return "pretraining" if self.pretrainable else "model"

    def class_name(self, role: ClassRole) -> str:
        """Name of the class in a role, such as ``CgDmerModel``."""
        return self.class_prefix + _SUFFIXES[role]

    def module_name(self, role: ClassRole) -> str:
        """Module that defines the class in a role."""
        if role == "trainer":
            return self.trainer or "ecg_hf.training.trainer"
        if isinstance(self.modules, str) and self.modules:
            return self.modules
        part = {"config": "configuration", "feature_extractor": "feature_extraction"}.get(role, "modeling")
        default = f"ecg_hf.models.{self.family or self.module}.{part}_{self.module}"
        if self.family and role == "feature_extractor":
            default = f"ecg_hf.models.{self.family}.feature_extraction"
        return dict(self.modules or {}).get(role, default)

    def load(self, role: ClassRole) -> Any:
        """Import and return the class in a role.

        The trainer of a method that names no module for it is :class:`ecg_hf.training.EcgPreTrainer` itself.

        Raises:
            ConfigurationError: if the method has none, because it is not pretrained here.
        """
        self.require_role(role)
        shared = role == "trainer" and not self.trainer
        name = "EcgPreTrainer" if shared else self.class_name(role)
        return getattr(import_module(self.module_name(role)), name)

    def require_role(self, role: ClassRole) -> None:
        """Raise a :class:`~ecg_hf.errors.ConfigurationError` unless the method has a class for ``role``."""
        if role not in self.roles:
            raise ConfigurationError(
                f"{self.name} is not pretrained here: convert its authors' weights and fine-tune them; "
                "'ecg-hf list models' has those that are",
                value=self.name,
            )

    def load_converter(self) -> ModuleType:
        """Import and return the module that converts the authors' weights: ``convert_official`` and ``FILES``.

        Raises:
            ConfigurationError: if there are none to convert.
        """
        if self.official_weights is None:
            raise ConfigurationError(
                f"{self.name} has no official weights to convert; 'ecg-hf convert --list' has what converts",
                value=self.name,
            )
        default = f"ecg_hf.models.{self.family or self.module}.conversion_{self.module}"
        return import_module(self.modules if isinstance(self.modules, str) and self.modules else default)

    def feature_extractor_for(self, config: Any, *, pretraining: bool = False, **options: Any) -> Any:
        """A feature extractor whose rate, leads and duration are those of ``config``.

        Args:
            config: Configuration of this method.
            pretraining: Also return what only the targets of pretraining are made of.
            options: Other fields of the feature extractor.

        Raises:
            ConfigurationError: if an option contradicts the configuration's rate, leads or length.
        """
        fitting = {
            "sampling_rate": config.sampling_rate,
            "lead_names": config.lead_names,
            "duration_s": config.num_samples / config.sampling_rate,
        }
        if pretraining:
            fitting |= dict.fromkeys(config.target_inputs, True)
        extractor = self.load("feature_extractor")(**{**fitting, **options})
        config.check_feature_extractor(extractor)
        return extractor
