"""What follows from a registry line: names, files, cards; and what a line can say otherwise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

import ecg_hf
from ecg_hf.cli.listing import _models
from ecg_hf.hub.card import write_model_card
from ecg_hf.hub.card_context import CardContext
from ecg_hf.models.registry import METHODS, PRETRAINABLE, ROLES, MethodSpec
from ecg_hf.training import EcgPreTrainer

from .conftest import make_case

ROOT = Path(__file__).resolve().parents[2]
OWN = {"paper": "", "official_code": None}


@pytest.fixture(scope="module")
def follow() -> ModuleType:
    """``scripts/follow_registry.py``."""
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location("follow_registry", ROOT / "scripts" / "follow_registry.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_written_files_are_up_to_date(follow: ModuleType) -> None:
    """``make registry`` mends what fails here."""
    stale = [
        path.name for path, text in follow.written_files().items() if path.read_text(encoding="utf-8") != text
    ]
    assert stale == []


def test_a_new_line_changes_every_file(follow: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    new = replace(METHODS["acl-ecg"], name="new-one", class_prefix="NewOne", title="New-One: new", trainer="")
    converter = METHODS["ecgfounder"].load_converter()
    monkeypatch.setattr(MethodSpec, "load_converter", lambda spec: converter)
    new = replace(new, official_weights="unknown")
    monkeypatch.setitem(METHODS, "new-one", new)
    # There is no module of it to ask.
    known = follow.rates_and_parameters
    monkeypatch.setattr(follow, "rates_and_parameters", lambda spec: ("", "") if spec is new else known(spec))
    stub, readme, project, checkpoints = follow.written_files().values()
    assert "from ecg_hf.models.new_one.configuration_new_one import NewOneConfig\n" in stub
    assert "NewOneTrainer = EcgPreTrainer\n" in stub
    assert '    "NewOneForPreTraining",\n' in stub
    assert "| **New-One** (`new-one`) | any of II, III, V1-V6 |" in readme
    assert '"Paper: New-One" = ' in project
    (row,) = [line for line in checkpoints.splitlines() if "`new-one`" in line]
    assert row.startswith(
        "| **New-One** (`new-one`) | `12_lead_ECGFounder.pth`, `1_lead_ECGFounder.pth` | https://"
    )
    assert "| not stated | 123 MB |  | fixture, 1e-5" in row


def test_checkpoints_that_are_fetched_stand_beside_their_method(follow: ModuleType) -> None:
    rows = {line.split("`")[1]: line for line in follow.checkpoint_table().splitlines()[2:]}
    assert set(rows) == {name for name, spec in METHODS.items() if spec.official_weights}
    assert "| `ecgfounder`, `ecgfounder-1-lead` |" in rows["ecgfounder"]
    assert "`hubert-ecg-sft-large`" in rows["hubert-ecg"]
    assert "cc-by-nc-4.0" in rows["hubert-ecg"]


def test_what_a_method_takes_is_read_from_its_presets(follow: ModuleType) -> None:
    assert follow.rates_and_parameters(METHODS["ecg-jepa"]) == ("250 Hz", "2.7 to 85 M")
    (row,) = [row for row in follow.choice_table().splitlines() if "`ecg-distil`" in row]
    assert "| any of the 12 | 100 Hz | 2.0 M | reports, measurements, ECG-Beat |" in row


def test_every_line_says_when_to_use_the_method() -> None:
    assert all(spec.use and "|" not in spec.use for spec in METHODS.values())


def test_all_and_star_import_hold_every_public_name() -> None:
    names = ecg_hf.__all__
    assert names == sorted(set(names))
    assert {spec.class_name(role) for spec in METHODS.values() for role in spec.roles} < set(names)
    assert {"EcgRecord", "read_record", "EcgError", "AutoModelForEcgClassification"} < set(names)
    namespace: dict[str, object] = {}
    exec("from ecg_hf import *", namespace)
    assert set(names) == namespace.keys() - {"__builtins__"}


def test_trainers_are_the_common_one_where_the_line_names_no_other() -> None:
    for spec in (METHODS[name] for name in PRETRAINABLE):
        trainer = getattr(ecg_hf, spec.class_name("trainer"))
        assert issubclass(trainer, EcgPreTrainer)
        assert (trainer is EcgPreTrainer) == (not spec.trainer)
    assert ecg_hf.EcgJepaTrainer.__name__ == "EcgJepaTrainer"


def line(**other: object) -> MethodSpec:
    """A registry line that differs from an existing one."""
    return replace(METHODS["ecg-jepa"], **other)  # type: ignore[arg-type]


def test_a_line_says_where_its_classes_are() -> None:
    default = line(trainer="")
    assert default.module_name("config") == "ecg_hf.models.ecg_jepa.configuration_ecg_jepa"
    assert default.module_name("model") == default.module_name("pretraining")
    assert default.module_name("trainer") == "ecg_hf.training.trainer"
    one = line(modules="ecg_hf.models.joint_embedding.simclr")
    classes = [role for role in ROLES if role != "trainer"]
    assert {one.module_name(role) for role in classes} == {"ecg_hf.models.joint_embedding.simclr"}
    assert one.module_name("trainer") == "ecg_hf.training.method_trainers"
    some = line(modules={"config": "ecg_hf.models.joint_embedding.configuration"})
    assert some.module_name("config") == "ecg_hf.models.joint_embedding.configuration"
    assert some.module_name("model") == "ecg_hf.models.ecg_jepa.modeling_ecg_jepa"
    assert hash(some) == hash(line(modules={}))


def test_classes_are_loaded_from_where_the_line_says() -> None:
    from ecg_hf.models.ecg_jepa import conversion_ecg_jepa
    from ecg_hf.models.ecg_jepa.modeling_ecg_jepa import EcgJepaModel

    elsewhere = line(name="elsewhere", modules={"model": "ecg_hf.models.ecg_jepa.modeling_ecg_jepa"})
    assert elsewhere.load("model") is EcgJepaModel
    alone = line(name="elsewhere", modules="ecg_hf.models.ecg_jepa.conversion_ecg_jepa")
    assert alone.load_converter() is conversion_ecg_jepa


def test_papers_are_named_and_linked() -> None:
    assert METHODS["acl-ecg"].paper_url == "https://doi.org/10.3390/s26031080"
    assert METHODS["acl-ecg"].paper_name == "doi:10.3390/s26031080"
    assert METHODS["ecg-jepa"].paper_url == "https://arxiv.org/abs/2410.08559"
    assert METHODS["ecg-jepa"].short_title == "ECG-JEPA (Kim)"


def test_a_method_without_a_paper_is_this_packages_own(
    follow: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own = line(**OWN)
    assert (own.paper_name, own.paper_url) == ("this package's own", "")
    monkeypatch.setitem(METHODS, "ecg-jepa", own)
    (row,) = [row for row in follow.readme_table().splitlines() if "`ecg-jepa`" in row]
    assert "| this package's own | here |" in row
    assert "Paper: ECG-JEPA (Kim)" not in follow.project_links()
    assert {row["name"]: row["paper"] for row in _models()}["ecg-jepa"] == "this package's own"

    monkeypatch.setattr("ecg_hf.hub.card._card_source", lambda spec: ({"tags": []}, "What it does."))
    model = own.load("pretraining")(make_case("ecg-jepa").config)
    context = CardContext("a model", "ptbxl", "CC BY 4.0")
    card = write_model_card(tmp_path, model, own.load("feature_extractor")(), context).read_text()
    assert f"{own.title} (this package's own), " in card
    assert "]()" not in card
    assert "Citation" not in card
    assert card.endswith("- Training data: CC BY 4.0\n")
