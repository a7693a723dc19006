"""The ASPP head and the mask transformer: against direct forms, and against the official networks with their
weights."""

import pytest
import torch
import torch.nn.functional as F

from methods.nn.deeplab import AsppHead
from methods.nn.segmenter import MaskTransformer, class_axis_norm
from tests.golden.official import assert_golden, golden


def test_class_axis_norm_by_hand():
    masks = torch.tensor([[[1.0, 2.0, 3.0], [0.0, 0.0, 3.0]]])  # means 2 and 1, unbiased stds 1 and sqrt 3
    weight, bias = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.5, 0.0, -1.0])
    out = class_axis_norm(masks, weight, bias)
    root = 3**0.5
    expected = torch.tensor([[[-0.5, 0.0, 2.0], [0.5 - 1 / root, -2 / root, 6 / root - 1]]])
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-4)  # 1e-5 on the std


@torch.no_grad()
def test_evaluation_pools_over_windows_with_a_replicated_border():
    torch.manual_seed(0)
    window, height, width = 4, 7, 6
    head = AsppHead(3, hidden=2, out_channels=2, dilations=(1, 2, 3), eval_window=window).eval()
    for branch in head.branches:  # only the pooling branch is left
        branch.weight.zero_()
    features = torch.randn(1, 3, height, width)
    for row, column in [(0, 0), (1, 1), (3, 2), (6, 5)]:
        top = min(max(row - 1, 0), height - window)  # the window starts (window - 1) // 2 before its position
        left = min(max(column - 1, 0), width - window)
        mean = features[..., top : top + window, left : left + window].mean(dim=(2, 3), keepdim=True)
        pooled = F.leaky_relu(head.pool_norm(head.pool_conv(mean)), 0.01)
        out = F.leaky_relu(head.out_norm(head.pool_reduce_conv(pooled)), 0.01)
        torch.testing.assert_close(head(features)[..., row, column], out[..., 0, 0])


@torch.no_grad()
def test_training_pools_over_the_whole_map_and_so_does_evaluation_on_a_training_crop():
    torch.manual_seed(0)
    head = AsppHead(3, hidden=2, out_channels=2, dilations=(1, 2, 3), eval_window=8)
    for norm in (head.branch_norm, head.pool_norm, head.out_norm):
        norm.momentum = 1.0  # running statistics become those of the batch
    features = torch.randn(64, 3, 8, 8)
    trained = head(features)
    torch.testing.assert_close(head.eval()(features), trained, rtol=0.02, atol=0.02)  # biased against unbiased variance


@torch.no_grad()
def test_masks_are_cosines_normalised_over_the_classes():
    torch.manual_seed(0)
    decoder = MaskTransformer(in_dim=6, dim=8, depth=2, heads=2, mlp_ratio=2, drop_path=0.0).eval()
    decoder.grow(3)
    decoder.grow(2, init="random")
    masks, patches, classes = decoder(torch.randn(2, 5, 6))
    cosines = F.cosine_similarity(patches[:, :, None], classes[:, None], dim=-1)
    torch.testing.assert_close(masks, class_axis_norm(cosines, torch.ones(5), torch.zeros(5)))


def load_head(case):
    head = AsppHead(24, hidden=8, out_channels=16, dilations=(6, 12, 18), eval_window=32)
    roles = {
        "branch_1x1": "branches.0",
        "branch_d6": "branches.1",
        "branch_d12": "branches.2",
        "branch_d18": "branches.3",
    }
    state = {
        roles.get(key.split(".")[0], key.split(".")[0]) + "." + key.split(".")[1]: case[key]
        for key in case
        if "." in key
    }
    assert all(key.endswith("num_batches_tracked") for key in head.load_state_dict(state, strict=False).missing_keys)
    return head


@pytest.mark.parametrize("result", ["out_eval", "out_eval_large", "out_train"])
@torch.no_grad()
def test_aspp_head_golden(shared, result):
    case = golden(shared, "aspp_head")
    head = load_head(case).train(result == "out_train")
    features = case["features_large" if result == "out_eval_large" else "features"]
    assert_golden(head(features), case[result])


@torch.no_grad()
def test_mask_transformer_golden(shared):
    case = golden(shared, "mask_transformer")
    decoder = MaskTransformer(in_dim=24, dim=32, depth=2, heads=2, mlp_ratio=2, drop_path=0.0).eval()
    decoder.grow(4)
    decoder.grow(2)
    results = ("patch_tokens", "masks", "patch_features", "class_features")
    state = {key.replace("class_axis_norm.", "norm_"): value for key, value in case.items() if key not in results}
    decoder.load_state_dict({k: v.squeeze(0) if k.startswith("class_tokens") else v for k, v in state.items()})
    masks, patch_features, class_features = decoder(case["patch_tokens"])
    assert_golden(masks.mT.unflatten(2, (4, 4)), case["masks"])
    assert_golden(patch_features, case["patch_features"])
    assert_golden(class_features, case["class_features"])


def test_class_axis_norm_golden(shared):
    case = golden(shared, "class_axis_norm")
    assert_golden(class_axis_norm(case["masks"], case["weight"], case["bias"]), case["out"])
