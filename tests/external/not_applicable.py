"""Tests of the library's suite that do not apply to our models, each with the reason.

The tests in this folder run them all the same: one that passes has no business in the list.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

from ecg_hf.models.registry import METHODS

__all__ = ["NOT_APPLICABLE", "reason_against"]

JOINT_EMBEDDING = tuple(name for name, spec in METHODS.items() if spec.family == "joint_embedding")
ECG_TEXT = tuple(name for name, spec in METHODS.items() if spec.family == "ecg_text")

# Pattern of the test's name, pattern of "method/role", reason.
NOT_APPLICABLE: tuple[tuple[str, str, str], ...] = (
    (
        "test_model_get_set_embeddings",
        "*",
        "the input is a signal: what embeds it is a convolution or a linear layer, not a table of embeddings",
    ),
    (
        "test_model_weights_reload_no_missing_tied_weights",
        "*",
        "loads a file without a single weight; we refuse files that lack weights instead of drawing them at random",
    ),
    (
        "test_training_gradient_checkpointing*",
        "*/[pc]*",
        "wants hooks of a checkpointed layer to run once; ours are recomputed with it",
    ),
    *(
        (
            f"test_get_text_features_{pattern}",
            f"{method}/[mz]*",
            "returns what zero-shot scores are made of, normalised, as documented; no output of a tower",
        )
        for method, pattern in (
            *((method, "*") for method in ("cg-dmer", "d-beta")),
            *(
                (method, part)
                for method in ("ecg-beat", "ecg-distil", *ECG_TEXT)
                for part in ("output_?", "hidden_states")
            ),
        )
    ),
    (
        "test_batching_equivalence",
        "ecg-beat/pretraining",
        "a record is mixed with the one beside it in the batch",
    ),
    (
        "test_init_weights_can_init_buffers",
        "ecg-cpc/*",
        "compares two random draws: the method draws the step sizes of its S4 layers and keeps them fixed",
    ),
    (
        "test_retain_grad_hidden_states_attentions",
        "ecg-cpc/model",
        "states of windows are joined for the output only, so no gradient passes through the joined tensor",
    ),
    *(
        (
            "test_batching_equivalence",
            f"{method}/pretraining",
            "hidden states have two rows per record, all first views before all second ones",
        )
        for method in ("acl-ecg", *JOINT_EMBEDDING)
    ),
    (
        "test_num_layers_is_small",
        "acl-ecg/*",
        "its VGG has 13 convolutions at any width; the micro size is narrow, not shallow",
    ),
    (
        "test_num_layers_is_small",
        "ecg-distil/*",
        "it has one residual block for each halving of the length, four at any size",
    ),
    *(
        (
            "test_hidden_states_output",
            f"{method}/*",
            "hidden states are stages of a convolutional network, each wider and shorter than the one before",
        )
        for method in ("acl-ecg", "ecg-beat", "ecg-distil", "ked", *JOINT_EMBEDDING, *ECG_TEXT)
    ),
    *(
        (
            f"test_eager_matches_sdpa_inference_??_????_pad_{padding}",
            "ecg-fm/[cm]*",
            "makes a mask of tokens; the attention mask of this model is of samples, as in the authors' code",
        )
        for padding in ("left", "right", "left_sdpa_kernels", "right_sdpa_kernels")
    ),
    *(
        (
            "test_eager_matches_sdpa_inference*",
            f"{method}/pretraining",
            "takes any model with an argument noise for one of square pictures, and draws it for their patches",
        )
        for method in ("st-mem", "heartlang")
    ),
    (
        "test_eager_matches_sdpa_inference_*",
        "d-beta/pretraining",
        "takes any model with an argument noise for one of square pictures",
    ),
    (
        "test_hidden_states_output",
        "ecgfounder/*",
        "hidden states are blocks of a convolutional network, some wider and shorter than the one before",
    ),
)


def reason_against(test: str, case: str) -> str | None:
    """Why ``test`` does not apply to ``case`` (``method/role``), or ``None`` if it does."""
    for name, where, reason in NOT_APPLICABLE:
        if fnmatchcase(test, name) and fnmatchcase(case, where):
            return reason
    return None
