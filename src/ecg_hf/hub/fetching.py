"""Weights by name: those that ship with the package, and those fetched from their authors and converted here."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, constants, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled
from transformers.utils import logging

from ecg_hf.documents import read_json
from ecg_hf.errors import ConfigurationError, ModelFolderError
from ecg_hf.files import write_whole
from ecg_hf.models.pretrained import DEFAULT_MODEL, list_pretrained, pretrained_folder

__all__ = ["FETCHED", "FetchedModel", "list_all_pretrained", "pretrained", "resolve_model"]

logger = logging.get_logger(__name__)

_CONFIG = "config.json"
_SOURCE = "source.json"
"""In a converted folder: where its weights come from. Written last, so a folder that has it is whole."""


@dataclass(frozen=True, slots=True)
class FetchedModel:
    """A checkpoint in its authors' own Hub repository.

    Attributes:
        name: What :func:`pretrained` takes.
        method: Name of its method in the registry, whose converter reads the file.
        repository: On the Hub.
        file: Its name there.
        size_bytes: Of the file, about.
        licence: SPDX identifier, or ``not stated``.
        task: ``embedding`` or ``classification``.
        trained_on: The recordings, as the authors say.
        options: Of the converter.
    """

    name: str
    method: str
    repository: str
    file: str
    size_bytes: int
    licence: str
    task: str
    trained_on: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def address(self) -> str:
        """Where a person finds the file."""
        return f"https://huggingface.co/{self.repository}/blob/main/{self.file}"

    @property
    def non_commercial(self) -> bool:
        """Whether the licence forbids commercial use."""
        return "-nc" in self.licence


def _hubert(size: str, mega_bytes: int, *, labels: bool) -> FetchedModel:
    middle = "HuBERT-ECG-SFT-CardioLearning" if labels else "hubert-ecg"
    return FetchedModel(
        f"hubert-ecg-{'sft-' if labels else ''}{size}",
        "hubert-ecg",
        f"Edoardo-Coppola/{middle}-{size}",
        "model.safetensors",
        mega_bytes * 10**6,
        "cc-by-nc-4.0",
        "classification" if labels else "embedding",
        "9.1 million ECGs of 164 conditions" if labels else "9.1 million ECGs",
    )


_FOUNDER = "PKUDigitalHealth/ECGFounder"
_FM = "wanglab/ecg-fm"

FETCHED: tuple[FetchedModel, ...] = (
    FetchedModel("ecgfounder", "ecgfounder", _FOUNDER, "12_lead_ECGFounder.pth", 370 * 10**6, "mit",
                 "classification", "HEEDB, 10.8 million ECGs, 150 labels"),
    FetchedModel("ecgfounder-1-lead", "ecgfounder", _FOUNDER, "1_lead_ECGFounder.pth", 370 * 10**6, "mit",
                 "classification", "HEEDB, lead I, 150 labels"),
    FetchedModel("ecg-fm", "ecg-fm", _FM, "mimic_iv_ecg_physionet_pretrained.pt", 1_090 * 10**6, "mit",
                 "embedding", "MIMIC-IV-ECG, PhysioNet Challenge 2021"),
    FetchedModel("ecg-fm-mimic-labels", "ecg-fm", _FM, "mimic_iv_ecg_finetuned.pt", 1_080 * 10**6, "mit",
                 "classification", "MIMIC-IV-ECG, 17 labels from its reports"),
    FetchedModel("heartlang", "heartlang", "PKUDigitalHealth/HeartLang",
                 "checkpoints/pretrain/MIMIC-IV/checkpoint-200.pth", 535 * 10**6, "mit",
                 "embedding", "MIMIC-IV-ECG"),
    *(_hubert(size, weight, labels=False) for size, weight in (("small", 122), ("base", 373), ("large", 753))),
    *(_hubert(size, weight, labels=True) for size, weight in (("small", 122), ("base", 373), ("large", 753))),
)  # fmt: skip
"""Checkpoints that are fetched by name; one more is one more row."""


def list_all_pretrained() -> list[dict[str, Any]]:
    """What ships and what is fetched, as JSON objects; ``origin`` is ``ships`` or ``fetched``."""
    shipped = [{**model.as_dict(), "origin": "ships"} for model in list_pretrained()]
    fetched = [
        {
            "name": one.name,
            "method": one.method,
            "task": one.task,
            "path": None,
            "size_bytes": one.size_bytes,
            "sha256": None,
            "licence": one.licence,
            "supervision": "see its card",
            "trained_on": one.trained_on,
            "origin": "fetched",
            "repository": one.repository,
            "file": one.file,
        }
        for one in FETCHED
    ]
    return [*shipped, *fetched]


def pretrained(name: str | None = None, *, revision: str | None = None) -> Path:
    """Folder of a model by name, for ``from_pretrained``.

    A model that does not ship is fetched from its authors' repository, converted on this machine and kept in the
    Hub's cache; ``HF_HOME``, ``HF_ENDPOINT``, ``HF_TOKEN`` and ``HF_HUB_OFFLINE`` are the library's.

    Args:
        name: See ``ecg-hf list pretrained``; the default encoder if not given.
        revision: Branch, tag or commit of the authors' repository.

    Raises:
        ConfigurationError: for an unknown name, or a revision of a model that ships.
        ModelFolderError: if the repository is out of reach; says which file to put where.
        EcgError: if the file is not what its name says, see :func:`ecg_hf.hub.converting.convert_checkpoint`.

    Example:
        >>> model = AutoModel.from_pretrained(ecg_hf.pretrained("ecg-distil-ptbxl"))
        >>> model = AutoModel.from_pretrained(ecg_hf.pretrained("ecgfounder"))
    """
    wanted = DEFAULT_MODEL if name is None else name
    for one in FETCHED:
        if one.name == wanted:
            return _fetched(one, revision)
    if wanted not in {model.name for model in list_pretrained()}:
        known = ", ".join(row["name"] for row in list_all_pretrained())
        raise ConfigurationError(f"no pretrained model {wanted!r}; there are {known}", value=wanted)
    if revision is not None:
        raise ConfigurationError(f"{wanted} ships with the package and has no revisions", value=revision)
    return pretrained_folder(wanted)


def resolve_model(source: str | Path) -> str:
    """What a command's ``--model`` stands for: the folder of a model by name, else ``source`` itself.

    A folder of that name in the working directory takes precedence, as in ``from_pretrained``.
    """
    text = str(source)
    named = {row["name"] for row in list_all_pretrained()}
    return str(pretrained(text)) if text in named and not Path(text).exists() else text


def _fetched(one: FetchedModel, revision: str | None) -> Path:
    cache = Path(constants.HF_HUB_CACHE) / "ecg_hf" / one.name
    pointer = cache / f"{hashlib.sha256((revision or 'main').encode()).hexdigest()[:16]}.json"
    try:
        found = HfApi().model_info(one.repository, revision=revision)
        commit = found.sha
        if one.non_commercial:
            logger.warning("%s: licence %s, which forbids commercial use", one.name, one.licence)
        file = Path(hf_hub_download(one.repository, one.file, revision=commit))
        config = None
        # The authors' own, for sizes that tensors don't tell.
        if _CONFIG in {sibling.rfilename for sibling in found.siblings or ()}:
            config = read_json(hf_hub_download(one.repository, _CONFIG, revision=commit), dict[str, Any])
    except (OfflineModeIsEnabled, LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        known = _known(pointer)
        if known is not None:
            return known
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise ModelFolderError(
            f"{one.name} can't be fetched ({reason}): get {one.file} from {one.address} and run "
            f"'ecg-hf convert {one.method} {one.file} FOLDER'",
            value=one.repository,
        ) from None
    digest = _sha256(file)
    folder = cache / digest[:32]
    source = {
        "repository": one.repository,
        "file": one.file,
        "commit": commit,
        "sha256": digest,
        "licence": one.licence,
    }
    if not (folder / _SOURCE).is_file():
        cache.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        options = dict(one.options)
        if config is not None:
            options["config"] = config
        # Not at the top: converting writes cards, which load evaluation and datasets; every command comes by here.
        from ecg_hf.hub.converting import convert_checkpoint

        convert_checkpoint(one.method, file, folder, **options)
        write_whole(folder / _SOURCE, json.dumps(source, indent=2) + "\n")
    write_whole(pointer, json.dumps({**source, "folder": folder.name}, indent=2) + "\n")
    logger.warning(
        "%s: %s of %s at commit %s, SHA-256 %s, licence %s; converted into %s",
        *(one.name, one.file, one.repository, commit, digest, one.licence, folder),
    )
    return folder


def _known(pointer: Path) -> Path | None:
    """The folder that an earlier call converted, when the repository is out of reach."""
    if not pointer.is_file():
        return None
    name = read_json(pointer, dict[str, str]).get("folder", "")
    folder = pointer.parent / Path(name).name
    return folder if (folder / _SOURCE).is_file() else None


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
