import pytest
import torch

from ecg_hf.nn.attention import SelfAttention, eager_attention
from ecg_hf.nn.backbones.transformer import TransformerBlock, TransformerStack
from ecg_hf.nn.heads import AttentionQueryPool, MaskedTokenHead, masked_mean
from ecg_hf.nn.losses import info_nce_loss, normalize_patches, reconstruction_loss, siglip_loss
from ecg_hf.nn.positions import sincos_positions
from ecg_hf.nn.tokenizers import ConvPatchTokenizer, gather_tokens, patchify, unpatchify


def test_patches_go_back_where_they_came_from():
    signal = torch.randn(2, 3, 40)
    patches = patchify(signal, 8)
    assert patches.shape == (2, 3, 5, 8)
    assert torch.equal(unpatchify(patches), signal)
    with pytest.raises(ValueError, match="multiple"):
        patchify(signal, 7)


def test_gather_tokens():
    tokens = torch.randn(2, 6, 4)
    index = torch.tensor([[5, 0], [1, 1]])
    assert torch.equal(gather_tokens(tokens, index)[1, 0], tokens[1, 1])


def test_tokenizer_sees_one_patch_only():
    tokenizer = ConvPatchTokenizer(50, 16, channels=(8, 16), kernel_sizes=(7, 5), strides=(2, 2), groups=4)
    patches = torch.randn(2, 12, 10, 50)
    tokens = tokenizer(patches)
    assert tokens.shape == (2, 12, 10, 16)
    changed = patches.clone()
    changed[0, 3, 4] += 1.0
    moved = (tokenizer(changed) - tokens).abs().amax(-1) > 1e-6
    assert moved.nonzero().tolist() == [[0, 3, 4]]


def test_norm_first_differs():
    torch.manual_seed(0)
    options = {"channels": (8,), "kernel_sizes": (3,), "strides": (1,), "groups": 2}
    first, last = (ConvPatchTokenizer(10, 4, norm_first=flag, **options) for flag in (True, False))
    last.load_state_dict(
        {k.replace("convolutions.1", "convolutions.2"): v for k, v in first.state_dict().items()}
    )
    patches = torch.randn(3, 10)
    assert not torch.allclose(first(patches), last(patches))


def test_attention_equals_torch():
    torch.manual_seed(0)
    attention = SelfAttention(16, 4)
    reference = torch.nn.MultiheadAttention(16, 4, batch_first=True)
    reference.in_proj_weight.data, reference.in_proj_bias.data = (
        attention.qkv.weight.data,
        attention.qkv.bias.data,
    )
    reference.out_proj.load_state_dict(attention.output.state_dict())
    x = torch.randn(2, 7, 16)
    keep = torch.ones(2, 7, dtype=torch.bool)
    keep[0, 4:] = False
    ours, weights = attention(x, keep[:, None, None, :])
    theirs, _ = reference(x, x, x, key_padding_mask=~keep)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
    assert weights[0, :, :, 4:].abs().max() == 0


def test_additive_and_boolean_masks_agree():
    q, k, v = torch.randn(3, 2, 4, 5, 8)
    keep = torch.rand(2, 1, 5, 5) > 0.3
    keep[..., 0] = True
    module = torch.nn.Identity().eval()
    additive = torch.zeros(2, 1, 5, 5).masked_fill(~keep, -torch.inf)
    torch.testing.assert_close(
        eager_attention(module, q, k, v, keep)[0], eager_attention(module, q, k, v, additive)[0]
    )


@pytest.mark.parametrize("norm_first", [True, False])
def test_stack_shapes(norm_first):
    stack = TransformerStack(2, lambda: TransformerBlock(16, 4, 32, norm_first=norm_first))
    assert stack(torch.randn(3, 5, 16)).shape == (3, 5, 16)


def test_sincos_rows_are_distinct_unit_pairs():
    table = sincos_positions(50, 32)
    torch.testing.assert_close(table[:, :16] ** 2 + table[:, 16:] ** 2, torch.ones(50, 16))
    assert torch.cdist(table, table).fill_diagonal_(1.0).min() > 0.1
    with pytest.raises(ValueError, match="even"):
        sincos_positions(4, 3)


def test_masked_mean_ignores_and_survives_nothing():
    tokens = torch.randn(2, 4, 3)
    mask = torch.tensor([[True, True, False, False], [False] * 4])
    pooled = masked_mean(tokens, mask)
    torch.testing.assert_close(pooled[0], tokens[0, :2].mean(0))
    assert torch.equal(pooled[1], torch.zeros(3))


def test_query_pool_ignores_masked_tokens():
    pool = AttentionQueryPool(8, 2).eval()
    tokens = torch.randn(1, 5, 8)
    mask = torch.tensor([[True, True, True, False, False]])
    torch.testing.assert_close(pool(tokens, mask), pool(tokens[:, :3]), rtol=1e-4, atol=1e-6)


def test_word_head_is_tied_to_the_embeddings_it_is_given():
    head, embedding = MaskedTokenHead(8, 20), torch.nn.Embedding(20, 8)
    head(torch.randn(2, 3, 8), embedding.weight).sum().backward()
    assert embedding.weight.grad is not None


def test_flat_patches_have_finite_targets_and_gradients():
    patches = torch.zeros(1, 2, 3, 10, requires_grad=True)
    for kind in ("patch_zscore", "lead_zscore", "raw"):
        assert normalize_patches(patches, kind).isfinite().all()
    normalize_patches(patches, "patch_zscore").sum().backward()
    assert patches.grad.isfinite().all()


def test_patch_zscore_is_what_st_mem_does():
    patches = torch.randn(2, 3, 4, 25, dtype=torch.float64) * 3 + 1
    expected = (patches - patches.mean(-1, keepdim=True)) / (patches.var(-1, keepdim=True) + 1e-6).sqrt()
    torch.testing.assert_close(normalize_patches(patches, "patch_zscore"), expected)


def test_reconstruction_counts_only_weighted_patches():
    prediction, target = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    weights = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    expected = (prediction - target)[0, [0, 2]].square().mean()
    torch.testing.assert_close(reconstruction_loss(prediction, target, weights), expected)


def test_info_nce_at_chance_is_log_batch():
    ecg = torch.ones(16, 8)
    torch.testing.assert_close(info_nce_loss(ecg, ecg, temperature=0.07), torch.tensor(16.0).log())


def test_aligned_pairs_have_the_smallest_loss():
    x = torch.nn.functional.normalize(torch.randn(8, 32), dim=-1)
    shuffled = x[torch.randperm(8, generator=torch.Generator().manual_seed(3)).roll(1)]
    for loss in (
        lambda a, b: info_nce_loss(a, b, temperature=0.07),
        lambda a, b: siglip_loss(a, b, scale=10.0, bias=-5.0),
    ):
        assert loss(x, x) < loss(x, shuffled)


def test_ignored_pairs_are_no_negatives():
    torch.manual_seed(0)
    ecg, text = torch.randn(4, 8), torch.randn(4, 8)
    text[3] = text[1]
    ignored = torch.zeros(4, 4, dtype=torch.bool)
    ignored[1, 3] = ignored[3, 1] = True
    kept = info_nce_loss(ecg, text, temperature=0.07)
    dropped = info_nce_loss(ecg, text, temperature=0.07, ignored_pairs=ignored)
    assert dropped < kept
    everything = torch.ones(4, 4, dtype=torch.bool)
    assert info_nce_loss(ecg, text, temperature=0.07, ignored_pairs=everything).abs() < 1e-6
