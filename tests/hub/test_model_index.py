"""Results of an evaluation in a card: own rows, replaced when run again, text untouched."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from ecg_hf.errors import ModelFolderError
from ecg_hf.evaluation.results import Results, SummaryRow
from ecg_hf.hub.model_index import update_model_index

TEXT = "# A model\n\nText that stays: 50 % -- as it is.\n"


def row(encoder: str, value: float | None, fraction: float = 0.1) -> SummaryRow:
    return SummaryRow(
        encoder=encoder, benchmark="ptbxl-super", protocol="merl-exact", head="linear", fraction=fraction,
        seeds=[0, 1],
        macro_auroc=value, sd=0.01, ci95=[0.7, 0.9], n_train=10, n_test=20, n_classes=5, solver="lbfgs",
    )  # fmt: skip


def results(*rows: SummaryRow) -> Results:
    return Results(dataset="ptbxl", probe=[], timings={}, summary=list(rows))


def test_own_rows_are_added_and_replaced(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(f"---\nlicense: apache-2.0\ntags:\n- ecg\n---\n{TEXT}")
    update_model_index(
        tmp_path, results(row("pretrained", 0.8), row("untrained", 0.6), row("pretrained", None, 1.0))
    )
    update_model_index(tmp_path, results(row("pretrained", 0.85), row("pretrained", 0.9, 1.0)))
    card = ModelCard.load(tmp_path / "README.md")
    found = {one.metric_name: one.metric_value for one in card.data.eval_results or []}
    assert found == {
        "macro AUROC, linear, 0.1 of labels, protocol merl-exact": 0.85,
        "macro AUROC, linear, 1 of labels, protocol merl-exact": 0.9,
    }
    assert (card.data.license, card.data.tags) == ("apache-2.0", ["ecg"])
    assert (tmp_path / "README.md").read_text().endswith(TEXT)


def test_no_card_no_update(tmp_path: Path) -> None:
    with pytest.raises(ModelFolderError, match="no card"):
        update_model_index(tmp_path, results(row("pretrained", 0.8)))
