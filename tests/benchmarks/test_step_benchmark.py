"""What frequency fusion and bfloat16 cost in a training step of the paper's network.

Run with `pytest tests/benchmarks/test_step_benchmark.py -s -o addopts=`.
"""

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from monai.losses import DiceLoss
from sizes import at_full_size, sized

from fdseg.frequency import BoxSplit, MaskSplit, masks
from fdseg.networks import ResidualUNet, SegmentationNetwork

SIZES = {
    "56x56x40": sized((56, 56, 40), (20, 20, 12)),
    "160x160x128": sized((160, 160, 128), (24, 24, 16)),
}
NATIVE_BF16 = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def training_step(fusion, size, bf16=False, split=None):
    """A function that does one step: forward, soft Dice, backward, Adam."""
    torch.manual_seed(0)
    split = split or BoxSplit(0.1, size)
    network = SegmentationNetwork(ResidualUNet(8), 8, 2, fusion, split)
    network.to(memory_format=torch.channels_last_3d)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    loss = DiceLoss(sigmoid=True, squared_pred=True)
    image, label = torch.rand(1, 1, *size), (torch.rand(1, 2, *size) > 0.95).float()

    def step():
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            logits = network(image)
        loss(logits.float(), label).backward()
        optimizer.step()

    return step


@pytest.mark.parametrize(("bf16", "limit"), [(False, 1.05), (True, 1.10)], ids=["fp32", "bf16"])
@pytest.mark.parametrize("name", SIZES)
def test_fusion_costs_little_beside_the_network(name, bf16, limit, medians, benchmark):
    if bf16 and not NATIVE_BF16:
        pytest.skip("this processor has no native bfloat16")
    steps = {f: training_step(f, SIZES[name], bf16) for f in ("none", "early", "late")}
    seconds = medians(steps, rounds=sized(25 if name == "56x56x40" else 7, 1))
    early, late = (seconds[f] / seconds["none"] for f in ("early", "late"))
    print(
        f"\n{name}: none {seconds['none']:.3f} s, early ÷ none {early:.3f}, late ÷ none {late:.3f}"
    )
    benchmark.pedantic(steps["early"], rounds=1)
    at_full_size(max(early, late) <= limit)


@pytest.mark.parametrize("fusion", ["early", "late"])
def test_a_mask_costs_little_more_than_the_box(fusion, medians, benchmark):
    size = SIZES["56x56x40"]
    mask = MaskSplit(partial(masks.ball, theta=0.1), size)
    steps = {"box": training_step(fusion, size), "mask": training_step(fusion, size, split=mask)}
    seconds = medians(steps, rounds=sized(25, 1))
    ratio = seconds["mask"] / seconds["box"]
    print(f"\n{fusion}: box {seconds['box']:.3f} s, mask ÷ box {ratio:.3f}")
    benchmark.pedantic(steps["mask"], rounds=1)
    at_full_size(ratio <= 1.3)


@pytest.mark.parametrize(("name", "limit"), [("56x56x40", 0.75), ("160x160x128", 0.5)])
def test_bfloat16_shortens_a_step_where_it_is_native(name, limit, medians, benchmark):
    if not NATIVE_BF16 and name != "56x56x40":
        pytest.skip("this processor has no native bfloat16, and emulates it for minutes")
    steps = {bf16: training_step("none", SIZES[name], bf16) for bf16 in (False, True)}
    seconds = medians(steps, rounds=sized(9 if name == "56x56x40" else 3, 1), warmup=1)
    ratio = seconds[True] / seconds[False]
    print(f"\n{name}: bf16 ÷ float32 {ratio:.2f} (native bfloat16: {NATIVE_BF16})")
    benchmark.pedantic(steps[NATIVE_BF16], rounds=1)
    # This is why precision=auto asks the hardware.
    at_full_size(ratio <= limit if NATIVE_BF16 else ratio > 1)


PEAK = """
import json, resource, sys
sys.path.insert(0, {folder!r})
from test_step_benchmark import training_step
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
before = peak()
step = training_step({fusion!r}, {size!r}, {bf16!r})
step(); step()
print(json.dumps([before, peak()]))
"""


@pytest.mark.parametrize("bf16", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("fusion", ["none", "early", "late"])
def test_peak_memory_of_a_step_at_the_papers_size(fusion, bf16, benchmark):
    if bf16 and not NATIVE_BF16:
        pytest.skip("this processor has no native bfloat16")
    code = PEAK.format(
        folder=str(Path(__file__).parent), fusion=fusion, bf16=bf16, size=SIZES["160x160x128"]
    )

    def measure():
        words = [sys.executable, "-c", code]
        return json.loads(subprocess.run(words, capture_output=True, check=True).stdout)

    before, peak = benchmark.pedantic(measure, rounds=1)
    print(f"\n{fusion}, {'bf16' if bf16 else 'float32'}: {peak:.2f} GiB, {before:.2f} before it")
    assert peak < 8
