"""Recipes that come with the package, and files that are none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ecg_hf.errors import ConfigurationError
from ecg_hf.models.registry import get_method
from ecg_hf.training import EcgPreTrainingArguments, list_recipes, load_recipe, pretrain


@pytest.mark.parametrize("name", list_recipes())
def test_every_recipe_makes_arguments_and_a_configuration(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    EcgPreTrainingArguments(output_dir=str(tmp_path), use_cpu=True, **recipe.training)
    get_method(recipe.method).load("config").preset(recipe.size, **recipe.model)


@pytest.mark.parametrize("name", list_recipes())
def test_a_variant_stands_above_the_recipe(
    name: str, built_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load_recipe(name)
    kind = get_method(recipe.method).load("config")

    class Reached(Exception):
        """The configuration is what this test is about; no model is built."""

    def preset(size: str, **fields: object) -> None:
        raise Reached(fields)

    monkeypatch.setattr(kind, "preset", preset)
    # Settings for an accelerator are refused on a machine without one.
    recipe = replace(recipe, training={"max_steps": 1}, text_model=None)
    for variant in kind.variants:
        with pytest.raises(Reached) as reached:
            pretrain(
                recipe.method,
                built_path,
                tmp_path / "run",
                recipe=recipe,
                model_options={"variant": variant, "initializer_range": 0.5},
            )
        expected = {**recipe.model, **kind.variant_fields(variant), "initializer_range": 0.5}
        if "freeze_text_layers" in expected:  # no text tower, no layers worth freezing
            expected["freeze_text_layers"] = 0
        assert reached.value.args[0].items() >= expected.items()


def test_paper_values_of_cg_dmer() -> None:
    recipe = load_recipe("cg_dmer")
    assert recipe.training["learning_rate"] == 2e-4
    assert recipe.training["weight_decay"] == 1e-5
    assert recipe.training["num_train_epochs"] == 50
    assert recipe.training["per_device_train_batch_size"] == 512
    assert recipe.training["lr_scheduler_type"] == "cosine"
    config = get_method("cg-dmer").load("config").preset(recipe.size, **recipe.model)
    assert (config.mask_ratio, config.temperature, config.text_mask_probability) == (0.75, 0.07, 0.15)
    assert (config.num_hidden_layers, config.num_patches) == (8, 100)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n- b\n", "a recipe is a mapping"),
        ("method: cg-dmer\nlearning_rate: 1\n", "unknown entries learning_rate"),
        ("method: nothing\n", "unknown model"),
        ("method: cg-dmer\ntraining: {learning_rat: 1}\n", "unknown training settings learning_rat"),
        ("method: cg-dmer\ntraining: {learning_rate: 2e-4}\n", "write a decimal point"),
        ("method: cg-dmer\nmodel: {size: huge}\n", "no size 'huge'"),
        ("method: [\n", "not a YAML file"),
        ("method: cg-dmer\ntraining: {push_to_hub: true}\n", "training.push_to_hub is not for a recipe"),
        ("method: cg-dmer\ntraining: {hub_model_id: a/b}\n", "training.hub_model_id is not for a recipe"),
        ("method: cg-dmer\ntraining: {report_to: all}\n", "training.report_to is not for a recipe"),
        ("method: cg-dmer\ntraining: {output_dir: ..}\n", "training.output_dir is not for a recipe"),
        ("method: cg-dmer\ntraining: {deepspeed: /x.json}\n", "training.deepspeed is not for a recipe"),
        (
            "method: cg-dmer\ntraining: {accelerator_config: x.json}\n",
            "must be settings, not the name of a file",
        ),
        ("method: cg-dmer\ntraining: {max_steps: [1]}\n", "training.max_steps must be a whole number"),
        ("method: cg-dmer\nmodel: [x]\n", "model must be an object or null"),
        ("method: cg-dmer\nmodel: {attn_implementation: org/kernel}\n", "asks for foreign code"),
        ("method: 3\n", "method must be text"),
        ("method: &a [*a]\n", "aliases are not read"),
        ("[" * 2000, "nested too deeply"),
        ("method: !!python/object/apply:os.system ['true']\n", "not a YAML file"),
    ],
)
def test_what_is_no_recipe_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=message):
        load_recipe(path)


def test_unknown_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"known: .*cg_dmer"):
        load_recipe("cg-dmer-v2")
    with pytest.raises(ConfigurationError, match="not found"):
        load_recipe(tmp_path / "absent.yaml")
