"""Every backbone of the configuration, proven by training it a few steps in every fusion."""

import hydra
import pytest
import torch
from commands import compose
from hydra.utils import instantiate

from fdseg.config import FOLDER
from fdseg.networks.disentangled import require_size

BACKBONES = sorted(path.stem for path in (FOLDER / "backbone").glob("*.yaml"))

# An odd grid that every backbone but the U-Net must pad, to 32 voxels at most where one will do.
SIZE = (21, 18, 17)
# At its minimum of 64 on all axes a step takes 10 s; 64 on one axis is enough for its norms.
SIZES = {"swinunetr": (36, 18, 17)}
SMALLER = {
    "mednext": ["backbone.network.init_filters=4"],
    "swinunetr": ["backbone.minimum=32"],
}

# What MONAI makes and never uses: the norms of cross-attention in a transformer without it.
UNUSED = "norm_cross_attn"


def configured(backbone, size, *overrides):
    grid = f"data.size=[{','.join(map(str, size))}]"
    return compose("train", f"backbone={backbone}", "n=4", grid, *overrides)


def batch(size, structures):
    """A noisy volume of balls, one per structure."""
    axes = torch.meshgrid(*[torch.linspace(-1, 1, n) for n in size], indexing="ij")
    centres = torch.linspace(-0.4, 0.4, structures)
    target = torch.stack(
        [(axes[0] - c) ** 2 + axes[1] ** 2 + axes[2] ** 2 < 0.15 for c in centres]
    ).float()[None]
    image = (target * torch.arange(1, structures + 1)[:, None, None, None]).sum(1, keepdim=True)
    return image + 0.1 * torch.randn(image.shape), target


@pytest.mark.parametrize("fusion", ["none", "early", "late"])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_backbone_trains_in_every_fusion(backbone, fusion):
    torch.manual_seed(0)
    size = SIZES.get(backbone, SIZE)
    config = configured(backbone, size, f"fusion={fusion}", "theta=0.3", *SMALLER.get(backbone, []))
    structures = len(config.data.structures)
    network = instantiate(config.network, structures=structures).train()
    require_size(network, size)
    loss_of = instantiate(config.loss)
    optimizer = instantiate(config.optimizer)(network.parameters())
    image, target = batch(size, structures)
    before = {name: p.detach().clone() for name, p in network.named_parameters()}

    def forward():
        torch.manual_seed(1)  # the same channels dropped each time
        logits = network(image)
        assert logits.shape == target.shape
        return loss_of(logits, target)

    losses = []
    for _ in range(2):
        loss = forward()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        losses.append(forward().item())

    assert losses[2] < losses[0]
    learned = {name: p for name, p in network.named_parameters() if UNUSED not in name}
    assert [n for n, p in learned.items() if p.grad is None or not p.grad.isfinite().all()] == []
    assert [n for n, p in learned.items() if p.grad.any() and torch.equal(p, before[n])] == []
    # A bias under a norm has no gradient; whatever is not a bias has one.
    idle = [n for n, p in learned.items() if not p.grad.any() and not n.endswith("bias")]
    assert idle == []


def takes(backbone, size):
    """Whether the backbone alone, nothing padded, takes a training step of one volume."""
    unpadded = ["backbone.multiple_of=1", "backbone.minimum=1", "theta=1"]
    try:
        network = instantiate(configured(backbone, size, *unpadded).network, structures=1)
        network.to("meta").train()(torch.empty(1, 1, *size, device="meta"))
    except (RuntimeError, ValueError, AssertionError, hydra.errors.InstantiationException):
        return False
    return True


@pytest.mark.parametrize("backbone", BACKBONES)
def test_multiple_and_minimum_of_a_backbone_are_the_smallest_it_takes(backbone):
    config = configured(backbone, SIZE).backbone
    minimum, step = config.minimum, config.multiple_of
    assert takes(backbone, [minimum] * 3)
    assert takes(backbone, [minimum + step, minimum, minimum])
    if minimum > step:
        assert not takes(backbone, [minimum - step] * 3)
    if step > 1:
        assert not takes(backbone, [minimum + step // 2, minimum, minimum])
