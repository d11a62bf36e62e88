"""The harness: cells that stay and are right, caches that are never another's, differences, published rows."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from ecg_hf.data import build_dataset, load_built
from ecg_hf.errors import ConfigurationError
from ecg_hf.evaluation.benchmark_data import get_benchmark
from ecg_hf.evaluation.cache import CellScores, CellStore, read_scores
from ecg_hf.evaluation.encoders import adapted_extractor
from ecg_hf.evaluation.evaluate import Evaluation, LoadedModel, _published, check_controls, evaluate_model
from ecg_hf.evaluation.features.store import TokenFeatures
from ecg_hf.evaluation.heads.finetune import finetune_settings
from ecg_hf.evaluation.heads.linear import LinearProbe
from ecg_hf.evaluation.heads.registry import HEADS, WindowedHead, configured_head
from ecg_hf.evaluation.plan import ASKED, EvaluationPlan
from ecg_hf.evaluation.prepare import Recordings, prepare
from ecg_hf.evaluation.protocols import PROTOCOLS, get_protocol
from ecg_hf.evaluation.report import results_csv, write_evaluation
from ecg_hf.evaluation.results import comparable_rows, published_rows, read_results
from ecg_hf.evaluation.scoring import deviations
from ecg_hf.evaluation.summary import aligned, compare_results, paired_difference
from ecg_hf.evaluation.tables import evaluation_markdown
from ecg_hf.evaluation.tasks import KIND_TASKS
from ecg_hf.evaluation.zero_shot import cosine_scores
from ecg_hf.metrics.bootstrap import bootstrap_auroc, paired_bootstrap
from ecg_hf.metrics.delong import paired_delong
from ecg_hf.metrics.ranking import auroc
from ecg_hf.models.registry import get_method
from ecg_hf.training.finetuning import EcgFineTuningArguments, EcgFineTuningTrainer, layer_depths

NAME = "synthetic-findings"
PLAN = EvaluationPlan(
    protocol=get_protocol("merl-exact"), fractions=(0.5, 1.0), seeds=(0, 1), n_resamples=40, subsets="drawn"
)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Recordings:
    folder = tmp_path_factory.mktemp("harness") / "data"
    build_dataset("synthetic", None, folder, records=150, seed=5, sampling_rate=100, progress=False)
    return Recordings.of(load_built(folder))


def micro(seed: int) -> LoadedModel:
    import torch

    from ecg_hf.models.registry import get_method

    method = get_method("ecg-jepa")
    torch.manual_seed(100 + seed)
    config = method.load("config").preset("micro")
    extractor = method.load("feature_extractor")(
        sampling_rate=config.sampling_rate,
        lead_names=config.lead_names,
        duration_s=config.num_samples / config.sampling_rate,
    )
    return LoadedModel(f"micro-{seed}", method.load("model")(config).eval(), extractor)


def run(
    folder: Path, recordings: Recordings, plan: EvaluationPlan = PLAN, seed: int = 0, **options: Any
) -> Evaluation:
    options.setdefault("controls", ("untrained",))
    return evaluate_model(
        plan, micro(seed), [get_benchmark(NAME)], {NAME: recordings}, folder, say=lambda line: None, **options
    )


def files(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in sorted(folder.iterdir())}


def test_rows_are_what_their_scores_say_and_cells_stay(recordings: Recordings, tmp_path: Path) -> None:
    first = run(tmp_path, recordings)
    # At 100 % nothing of an exact linear probe depends on the seed: one cell for both.
    assert [(c.encoder, c.fraction, c.seed) for c in first.cells] == [
        (encoder, fraction, seed)
        for encoder in ("pretrained", "untrained")
        for fraction, seed in ((0.5, 0), (1.0, 0), (0.5, 1))
    ]
    for cell in first.cells:
        kept = read_scores(tmp_path / "scores" / f"{cell.result.key}.safetensors")
        areas = [
            roc_auc_score(kept.labels[:, k], kept.scores[:, k])
            for k in np.flatnonzero(kept.included)
            if 0 < kept.labels[:, k].sum() < len(kept.labels)
        ]
        assert cell.result.content["macro_auroc"] == pytest.approx(np.mean(areas), abs=1e-12)
        chosen = kept.included
        p = 1.0 / (1.0 + np.exp(-kept.scores[:, chosen]))
        brier = ((p - kept.labels[:, chosen]) ** 2).mean(axis=0).mean()
        assert cell.result.content["macro_brier"] == pytest.approx(brier)
        assert 0.0 < cell.result.content["macro_ece"] < 1.0
        assert kept.record_ids == tuple(
            first.prepared[NAME].record_ids[first.prepared[NAME].data.rows("test")]
        )
    pair = first.results["paired"][0]
    both = [c.result.scores for c in first.cells if c.fraction == 1.0]
    assert both[0] is not None
    assert both[1] is not None
    whole = next(p for p in first.results["paired"] if p["fraction"] == 1.0)
    include = both[0].included
    expected = paired_bootstrap(
        both[0].labels,
        both[0].scores,
        both[1].scores,
        groups=both[0].patients,
        include=include,
        n_resamples=40,
    )
    assert [whole["difference"], *whole["ci95"], whole["p_value"]] == pytest.approx(
        [expected.difference.estimate, *expected.difference.limits, expected.p_value]
    )
    delong = paired_delong(
        both[0].labels, both[0].scores, both[1].scores, groups=both[0].patients, include=include, floor=True
    )
    assert whole["interval"] == expected.method
    assert whole["p_delong"] == pytest.approx(delong.macro_p_value)
    assert (pair["second"], pair["n_seeds"]) == ("untrained", 2)

    before = files(tmp_path / "cells") | files(tmp_path / "scores") | files(tmp_path / "features")
    again = run(tmp_path, recordings)
    assert (
        again.computed,
        files(tmp_path / "cells") | files(tmp_path / "scores") | files(tmp_path / "features"),
    ) == (
        0,
        before,
    )
    assert [c.result.content for c in again.cells] == [c.result.content for c in first.cells]

    written = write_evaluation(tmp_path, first)
    assert read_results(tmp_path / "results.json") == json.loads(json.dumps(first.results))
    assert len(results_csv(first.results).splitlines()) == 1 + len(first.cells)
    assert "| pretrained | linear | 50 %" in evaluation_markdown(first.results)
    assert {path.suffix for path in written} >= {".png", ".svg", ".json", ".csv", ".md"}
    assert {path.stem for path in written} >= {
        f"{NAME}-{kind}" for kind in ("bars", "roc", "reliability", "tsne")
    }


def test_another_model_or_preprocessing_shares_nothing(recordings: Recordings, tmp_path: Path) -> None:
    plan = replace(PLAN, fractions=(1.0,), seeds=(0,))
    run(tmp_path, recordings, plan, controls=())
    features, cells = files(tmp_path / "features"), files(tmp_path / "cells")
    other = run(tmp_path, recordings, plan, seed=1, controls=())
    assert (other.computed, other.reused) == (1, 0)
    assert len(files(tmp_path / "features")) == 2 * len(features)
    assert {name: files(tmp_path / "cells")[name] for name in cells} == cells
    changed = micro(0)
    changed.extractor.clip = 0.5
    third = evaluate_model(
        plan, changed, [get_benchmark(NAME)], {NAME: recordings}, tmp_path, say=lambda line: None
    )
    assert (third.computed, third.reused) == (1, 0)
    assert len(files(tmp_path / "features")) == 3 * len(features)
    # A cell whose scores were lost, or that was cut short, is none.
    (tmp_path / "scores" / f"{third.cells[0].result.key}.safetensors").unlink()
    (tmp_path / "cells" / f"{other.cells[0].result.key}.json").write_text("{")
    assert run(tmp_path, recordings, plan, seed=1, controls=()).computed == 1


def test_equal_weights_share_cells_under_their_own_names(recordings: Recordings, tmp_path: Path) -> None:
    from ecg_hf.evaluation.encoders import untrained_copy

    loaded = micro(0)
    same = replace(loaded, model=untrained_copy(loaded.model))
    plan = replace(PLAN, fractions=(1.0,), seeds=(0,))
    found = evaluate_model(
        plan,
        same,
        [get_benchmark(NAME)],
        {NAME: recordings},
        tmp_path,
        controls=("untrained",),
        say=lambda line: None,
    )
    assert [(c.encoder, c.result.content["encoder"]) for c in found.cells] == [
        ("pretrained", "pretrained"),
        ("untrained", "untrained"),
    ]
    assert (found.computed, found.reused) == (1, 1)
    assert found.results["paired"][0]["difference"] == 0.0


def test_windows_of_an_encoder_that_cuts_recordings(recordings: Recordings, tmp_path: Path) -> None:
    import torch

    from ecg_hf.models.registry import get_method

    method = get_method("ecg-cpc")
    torch.manual_seed(0)
    config = method.load("config").preset("micro")
    seconds = config.window_samples / config.sampling_rate
    extractor = method.load("feature_extractor")(
        sampling_rate=config.sampling_rate, lead_names=config.lead_names, duration_s=10.0
    )
    loaded = LoadedModel("cpc", method.load("model")(config).eval(), extractor)
    protocol = replace(
        PROTOCOLS["strodthoff"], subset_rule="nested", window_s=seconds, schedules={}, fractions=(1.0,)
    )
    plan = EvaluationPlan(protocol=protocol, n_resamples=5, head_options={"c_grid": [0.1]})
    found = evaluate_model(
        plan, loaded, [get_benchmark(NAME)], {NAME: recordings}, tmp_path, say=lambda line: None
    )
    assert found.cells[0].result.content["aggregation"] == "mean_probability"
    windows = found.model[NAME].features(
        "windows", found.prepared[NAME].dataset, found.prepared[NAME].recordings
    )
    count = round(10.0 / seconds)
    assert windows.shape[:2] == (150, count)
    assert windows.windows == count


def test_a_changed_label_or_record_is_another_cell(recordings: Recordings) -> None:
    one = prepare(get_benchmark(NAME), get_protocol("merl-exact"), recordings, (None, None, None))
    train = one.data.rows("train")
    labels = one.data.labels.copy()
    labels[one.data.rows("test")[0], 0] ^= True
    assert replace(one, data=replace(one.data, labels=labels)).digest(train) != one.digest(train)
    assert one.digest(train[1:]) != one.digest(train)
    assert one.digest(train) == one.digest(train.copy())
    assert one.digest(None) != one.digest(train)


def test_heads_that_read_more_than_a_vector(recordings: Recordings, tmp_path: Path) -> None:
    plan = replace(PLAN, fractions=(1.0,), seeds=(0,), n_resamples=5)
    for head, options in (("mlp", {"hidden": 8, "epochs": 2}), ("attention", {"epochs": 1, "num_heads": 2})):
        found = run(tmp_path, recordings, replace(plan, heads=(head,), head_options=options))
        assert [(c.head, c.result.content["epochs"]) for c in found.cells] == [(head, options["epochs"])] * 2
    published = run(tmp_path, recordings, replace(plan, solver="published", head_options={}), controls=())
    assert published.cells[0].result.content["solver"] == "merl"


def test_two_evaluations_compared_and_refused(recordings: Recordings, tmp_path: Path) -> None:
    plan = replace(PLAN, seeds=(0,))
    for seed in (0, 1):
        folder = tmp_path / str(seed)
        write_evaluation(folder, run(folder, recordings, plan, seed=seed, controls=()), figures=False)
    paths = [tmp_path / str(seed) / "results.json" for seed in (0, 1)]
    rows = compare_results(*paths)
    assert [row.fraction for row in rows] == [0.5, 1.0]
    for row in rows:
        assert row.first is not None
        assert row.second is not None
        assert row.found.difference.estimate == pytest.approx(row.first - row.second)
    back = compare_results(*reversed(paths))
    assert back[0].found.difference.estimate == pytest.approx(-rows[0].found.difference.estimate)
    same = compare_results(paths[0], paths[0])
    assert same[0].found.difference.limits == [0.0, 0.0]
    with pytest.raises(ConfigurationError, match="no benchmark"):
        compare_results(*paths, encoder="untrained")


def made(n: int = 60, k: int = 3, seed: int = 0, quality: float = 1.0, truth: int = 0) -> CellScores:
    labels = np.random.default_rng(truth).random((n, k)) < 0.4
    scores = quality * labels + np.random.default_rng(seed).normal(size=(n, k))
    samples = bootstrap_auroc(labels, scores, n_resamples=50).samples
    names = tuple(f"c{i}" for i in range(k))
    return CellScores(tuple(map(str, range(n))), names, None, labels, scores, np.ones(k, bool), samples)


def test_differences_average_seeds() -> None:
    mine, theirs = [made(seed=s) for s in (1, 2)], [made(seed=3, quality=0.2)]
    found = paired_difference(mine, theirs)
    single = [paired_difference([one], theirs) for one in mine]
    assert found.difference.estimate == pytest.approx(np.mean([one.difference.estimate for one in single]))
    mean = np.mean([one.samples for one in mine], axis=0) - theirs[0].samples
    assert found.difference.limits == pytest.approx([*np.percentile(mean, [2.5, 97.5])])
    assert 0 < found.p_delong < 1
    twice = paired_difference([mine[0], mine[0]], [theirs[0], theirs[0]])
    assert twice.p_delong == pytest.approx(single[0].p_delong, rel=1e-6)
    partly = replace(theirs[0], included=np.array([True, True, False]))
    assert paired_difference(mine, [partly]).classes == 2
    with pytest.raises(ConfigurationError, match="seeds"):
        paired_difference([*mine, mine[0]], [theirs[0]] * 2)


def test_test_sets_must_be_the_same() -> None:
    one, other = made(seed=1), made(seed=2)
    order = np.random.default_rng(0).permutation(60)
    a, b = aligned(one, other.select(order))
    assert a.record_ids == b.record_ids
    assert np.array_equal(b.scores, other.scores)
    fewer = other.select(np.arange(40))
    with pytest.raises(ConfigurationError, match="60 and 40 records, 40"):
        aligned(one, fewer)
    assert len(aligned(one, fewer, common=True)[0].record_ids) == 40
    with pytest.raises(ConfigurationError, match="other labels"):
        aligned(one, made(truth=9))
    with pytest.raises(ConfigurationError, match="classes"):
        aligned(one, replace(other, class_names=("x", "y", "z")))
    with pytest.raises(ConfigurationError, match="no record"):
        aligned(one, replace(other, record_ids=tuple(f"r{i}" for i in range(60))), common=True)


def test_windows_train_alone_and_vote_together() -> None:
    rng = np.random.default_rng(0)
    labels = rng.random((80, 1)) < 0.5
    values = (labels[:, None] + rng.normal(size=(80, 4, 3))).astype(np.float32)
    mask = np.ones((80, 4), dtype=bool)
    mask[0, 2:] = False
    tokens = TokenFeatures(values, mask, windows=4)
    head = WindowedHead(LinearProbe(c_grid=(1.0,)))
    head.fit(tokens, labels)
    flat, y = values[mask], labels[np.nonzero(mask)[0], 0]
    scale = flat.astype(np.float64).mean(axis=0), flat.astype(np.float64).std(axis=0)
    reference = LogisticRegression(C=1.0, tol=1e-10, max_iter=1000).fit((flat - scale[0]) / scale[1], y)
    single = reference.predict_proba(((values - scale[0]) / scale[1]).reshape(-1, 3))[:, 1].reshape(80, 4)
    mean = np.array([p[there].mean() for p, there in zip(single, mask, strict=True)])
    odds = head.decision_function(tokens)[:, 0]
    assert 1 / (1 + np.exp(-odds)) == pytest.approx(mean, abs=2e-4)


@pytest.mark.parametrize(
    ("protocol", "solver", "expected"),
    [
        ("merl", "auto", "merl_step_bug"),
        ("merl-test-max", "auto", "merl_test_max"),
        ("merl-exact", "published", "merl"),
        ("jepa", "auto", "ecg_jepa"),
        ("strodthoff", "auto", "strodthoff-linear"),
    ],
)
def test_protocols_bring_their_schedules(protocol: str, solver: str, expected: str) -> None:
    head = configured_head("linear", PROTOCOLS[protocol], solver=solver)
    assert head.settings["schedule"]["name"] == expected
    assert head.sees_test == (protocol == "merl-test-max")
    assert head.needs_validation == (protocol in ("merl", "merl-exact", "strodthoff"))
    json.dumps(head.settings)


@pytest.mark.parametrize("noise", [0.0, 2e-7])
def test_an_encoder_that_says_the_same_of_every_record_is_at_chance(noise: float) -> None:
    rng = np.random.default_rng(0)
    constant = np.repeat(rng.normal(size=(1, 37)), 203, axis=0)
    # Batches of another size round otherwise.
    x, x_val, x_test = (
        (constant * (1 + noise * rng.normal(size=constant.shape))).astype(np.float32) for _ in "abc"
    )
    y, y_val, y_test = (rng.random((203, 3)) < 0.3 for _ in "abc")
    for name, protocol in (("linear", "merl-exact"), ("linear", "strodthoff"), ("mlp", "merl-exact")):
        head = configured_head(
            name, PROTOCOLS[protocol], options={"epochs": 2} if name == "mlp" else {}
        ).build(0)
        head.fit(x, y, x_val, y_val)
        areas = auroc(y_test, head.decision_function(x_test))
        if noise and protocol == "strodthoff":
            continue  # the published head does not scale its features: what is left is noise
        np.testing.assert_array_equal(areas, 0.5, err_msg=f"{name} of {protocol}")
    text = cosine_scores(x if not noise else np.repeat(x[:1], 203, axis=0), rng.normal(size=(3, 37)))
    np.testing.assert_array_equal(auroc(y_test, text), 0.5)


def test_wrong_plans() -> None:
    protocol = get_protocol("merl-exact")
    wrong: Sequence[tuple[dict[str, Any], str]] = (
        ({"heads": ("quantum",)}, "head must be"),
        ({"heads": ()}, "heads"),
        ({"heads": ("linear", "mlp"), "head_options": {"epochs": 2}}, "one head"),
        ({"fractions": (0.0,)}, "fraction"),
        ({"seeds": (0, 0)}, "seeds"),
        ({"n_resamples": 0}, "resamples"),
        ({"head_options": {"colour": 1}}, "colour"),
        ({"solver": "magic"}, "solver"),
        ({"subsets": "mine"}, "subsets"),
    )
    for options, message in wrong:
        with pytest.raises(ConfigurationError, match=message):
            EvaluationPlan(protocol=protocol, **options)
    plan = EvaluationPlan(protocol=protocol)
    with pytest.raises(ConfigurationError, match="oracle"):
        check_controls(("oracle",), plan)
    with pytest.raises(ConfigurationError, match="zero-shot"):
        check_controls(("handmade",), replace(plan, heads=("zero-shot",)))
    assert check_controls(None, replace(plan, heads=("zero-shot",))) == (("untrained",), [])
    quick, (note,) = check_controls(None, plan)
    assert quick == ("untrained", "handmade")
    assert "minirocket, supervised" in note
    assert "--controls untrained,handmade,minirocket,supervised" in note
    assert check_controls(("random", "supervised", "untrained"), plan) == (("untrained", "supervised"), [])


def test_published_rows_stand_only_beside_their_like() -> None:
    assert {row.protocols for row in published_rows()} == {
        ("merl", "merl-test-max"),
        ("strodthoff",),
        ("jepa",),
        (),
    }
    assert all(0.4 < row.macro_auroc < 1 for row in published_rows())

    def models(*where: Any, **options: Any) -> list[str]:
        return [row.model for row in comparable_rows(*where, **options)]

    assert "CG-DMER" in models("ptbxl-super", "merl", "linear", 0.1, 2158)
    assert models("ptbxl-super", "merl-exact", "linear", 0.1, 2158) == []
    assert models("ptbxl-super", "merl", "linear", 0.1, 2146) == []
    assert models("ptbxl-super", "merl", "linear", 0.2, 2158) == []
    assert models("ptbxl-super", "merl", "mlp", 0.1, 2158) == []
    assert models("ptbxl-super", "merl", "linear", 0.1, 2158, folds=("1-7", "8", "9")) == []
    assert "CG-DMER" in models("ptbxl-super", "merl", "linear", 0.1, 2158, folds=("1-8", None, None))
    (row,) = (
        row for row in comparable_rows("ptbxl-super", "merl", "linear", 1.0, 2158) if row.model == "CG-DMER"
    )
    assert row.macro_auroc == 0.9031
    (row,) = (
        r for r in comparable_rows("ptbxl-all", "strodthoff", "finetune", 1.0, 2198) if r.model == "ECG-CPC"
    )
    assert (row.macro_auroc, row.ci95) == (0.9493, (0.9162, 0.9511))


@pytest.mark.parametrize(
    "name", [name for name, protocol in PROTOCOLS.items() if "finetune" in protocol.schedules]
)
def test_every_field_of_a_published_fine_tuning_reaches_the_trainer(name: str, tmp_path: Path) -> None:
    protocol = get_protocol(name)
    schedule = protocol.schedules["finetune"]
    method = get_method("ecg-jepa")
    model = method.load("classification")(method.load("config").preset("micro"))
    settings = finetune_settings(protocol, {}, "ecg-jepa")
    unlike = {
        "eval_strategy": "no",
        "save_strategy": "no",
        "load_best_model_at_end": False,
        "report_to": "none",
    }
    arguments = EcgFineTuningArguments(output_dir=str(tmp_path), use_cpu=True, **unlike, **settings)
    trainer = EcgFineTuningTrainer(model=model, args=arguments)
    steps = 10 * schedule.epochs
    trainer.create_optimizer_and_scheduler(steps)
    optimizer = trainer.optimizer
    assert isinstance(optimizer, torch.optim.AdamW)
    assert (arguments.per_device_train_batch_size, arguments.num_train_epochs) == (
        schedule.batch_size,
        schedule.epochs,
    )
    assert (arguments.early_stopping_patience, arguments.max_grad_norm) == (0, 0.0)
    names = {id(parameter): each for each, parameter in model.named_parameters()}
    peaks: dict[str, float] = {}
    for group in optimizer.param_groups:
        assert group["betas"] == schedule.betas
        assert group["weight_decay"] == schedule.weight_decay
        peaks |= {names[id(parameter)]: group["initial_lr"] for parameter in group["params"]}
    assert peaks.keys() == set(names.values())
    depths = layer_depths(model)
    for each, rate in peaks.items():
        part = "stem" if depths[each] <= schedule.stem_layers.get("ecg-jepa", 0) else "encoder"
        known = {"encoder": schedule.encoder_learning_rate, "stem": schedule.stem_learning_rate}
        own = known[part] if each.startswith("ecg_jepa.") else None
        assert rate == (own or schedule.learning_rate), each
    # The rate over the whole training, as a share of its peak.
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"] / optimizer.param_groups[0]["initial_lr"])
        optimizer.step()
        trainer.lr_scheduler.step()
    warm = 10 * schedule.warmup_epochs
    least = schedule.minimum / schedule.learning_rate
    for step, rate in enumerate(rates):
        expected = 1.0
        if step < warm:
            expected = step / warm
        elif schedule.decay == "cosine":
            expected = least + (1 - least) * 0.5 * (1 + math.cos(math.pi * (step - warm) / (steps - warm)))
        assert rate == pytest.approx(expected, abs=1e-9), step


def test_a_minimum_rate_and_warm_up_steps_are_honoured_too(tmp_path: Path) -> None:
    """No published fine-tuning has them today."""
    protocol = get_protocol("strodthoff")
    schedule = replace(protocol.schedules["finetune"], decay="cosine", warmup_iterations=7, minimum=1e-5)
    protocol = replace(protocol, schedules={"finetune": schedule})
    settings = finetune_settings(protocol, {})
    arguments = EcgFineTuningArguments(output_dir=str(tmp_path), use_cpu=True, report_to="none", **settings)
    assert arguments.get_warmup_steps(500) == 7
    assert arguments.lr_scheduler_kwargs == {"min_lr": 1e-5}
    asked = finetune_settings(protocol, {"layer_decay": 0.75})
    assert "encoder_learning_rate" not in asked
    assert asked["layer_decay"] == 0.75
    with pytest.raises(ConfigurationError, match="layer_decay=1"):
        EcgFineTuningArguments(output_dir=str(tmp_path), use_cpu=True, encoder_learning_rate=1e-4)
    with pytest.raises(ConfigurationError, match="encoder_learning_rate"):
        EcgFineTuningArguments(output_dir=str(tmp_path), use_cpu=True, stem_layers=2)


def test_published_rows_have_no_head_that_was_set_otherwise() -> None:
    """A row of ours stands beside a published one only if it was trained as published."""
    row: Any = {
        "encoder": "pretrained", "benchmark": "ptbxl-super", "protocol": "strodthoff", "fraction": 1.0,
        "n_test": 2198, "solver": "published",
    }  # fmt: skip
    plan = EvaluationPlan(protocol=get_protocol("strodthoff"))
    jepa, cpc, acl = (
        get_method(name).load("model")(get_method(name).load("config").preset("micro"))
        for name in ("ecg-jepa", "ecg-cpc", "acl-ecg")
    )

    def published(plan: EvaluationPlan, model: Any, rows: Any) -> Any:
        return _published(plan, ["pretrained"], rows, {"pretrained": deviations(plan, model)})

    def listed(model: Any, head: str, **options: Any) -> tuple[bool, str]:
        found, notes = published(
            replace(plan, heads=(head,), head_options=options), model, [{**row, "head": head}]
        )
        return bool(found), " ".join(notes)

    for head in ("linear", "attention", "finetune"):
        assert listed(jepa, head) == (True, "")
        option = {"standardise": True} if head == "linear" else {"epochs": 3}
        shown, note = listed(jepa, head, **option)
        assert not shown
        assert f"asked for otherwise: {next(iter(option))}" in note
    shown, note = listed(cpc, "finetune")
    assert not shown
    assert "all windows of a recording" in note
    assert "augmentations" in " ".join(deviations(EvaluationPlan(get_protocol("jepa"), ("finetune",)), jepa))
    assert deviations(EvaluationPlan(get_protocol("merl"), ("finetune",)), jepa)
    flat = not max(layer_depths(acl).values())
    assert flat == bool(deviations(replace(plan, heads=("finetune",)), acl))
    exact = [{**row, "head": "linear", "solver": "lbfgs"}]
    assert published(plan, jepa, exact)[0] == []
    assert published(plan, jepa, [{**row, "head": "supervised"}])[0] == []


def test_a_protocol_sets_what_is_not_the_models() -> None:
    loaded = micro(0)
    adapted, kept = adapted_extractor(loaded.extractor, loaded.model, PROTOCOLS["merl"].extractor)
    assert set(kept) >= {"sampling_rate", "lead_names"}
    assert adapted.normalization == "minmax_record"
    assert adapted.sampling_rate == loaded.extractor.sampling_rate
    assert loaded.extractor.normalization != "minmax_record"
    assert adapted_extractor(loaded.extractor, loaded.model, {}) == (loaded.extractor, ())


def test_cells_refuse_what_json_cannot_say(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        CellStore(tmp_path).get({"kind": "x"}, lambda: ({"value": float("nan")}, None))
    assert not list(tmp_path.rglob("*.json"))


def test_several_heads_in_one_evaluation(recordings: Recordings, tmp_path: Path) -> None:
    """Each head's rows are those of an evaluation by it alone; differences are between rows of the same head."""
    plan = replace(PLAN, fractions=(1.0,), seeds=(0,), n_resamples=10)
    both = run(
        tmp_path / "both",
        recordings,
        replace(plan, heads=("linear", "mlp")),
        controls=("untrained", "handmade"),
    )
    rows = {(row["encoder"], row["head"]): row for row in both.results["summary"]}
    assert set(rows) == {(e, h) for e in ("pretrained", "untrained", "handmade") for h in ("linear", "mlp")}
    alone = run(tmp_path / "both", recordings, replace(plan, heads=("mlp",)))
    assert alone.computed == 0
    for row in alone.results["summary"]:
        assert row == rows[row["encoder"], "mlp"]
    for pair in both.results["paired"]:
        assert pair["head"] == pair["second_head"]
        difference = (
            rows["pretrained", pair["head"]]["macro_auroc"]
            - rows[pair["second"], pair["head"]]["macro_auroc"]
        )
        assert pair["difference"] == pytest.approx(difference)
    assert all("macro_auroc_unlearnt_at_chance" in row for row in both.results["summary"])


def test_tasks_go_by_what_a_plan_can_ask() -> None:
    assert {*HEADS, "zero-shot", "retrieval", *KIND_TASKS.values()} == set(ASKED)
    for name in HEADS:
        assert EvaluationPlan(PLAN.protocol, (name,)).head(name).name == name
