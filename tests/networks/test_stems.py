"""What a second stem does to the optimisation, and the one stem that does the same."""

import pytest
import torch
from monai.losses import DiceLoss

from fdseg.frequency import WholeSplit
from fdseg.networks import RescaledConv3x3x3, ResidualUNet, SegmentationNetwork

STEPS = 12


@pytest.fixture
def networks():
    """Two stems, one rescaled and one plain, that start as the same function, in float64."""

    def make(fusion="none", **options):
        torch.manual_seed(0)
        backbone = ResidualUNet(4, dropout=0)  # else they would draw different masks
        return SegmentationNetwork(backbone, 4, 2, fusion, **options).double()

    double = make("early", split=WholeSplit())
    rescaled, plain = make(stem=RescaledConv3x3x3), make()
    rest = {k: v for k, v in double.state_dict().items() if not k.startswith("stem")}
    both = double.stem.weight.detach() + double.stem_low.weight.detach()
    rescaled.load_state_dict({**rest, "stem.weight": both / 2})
    plain.load_state_dict({**rest, "stem.weight": both})
    return double, rescaled, plain


def course(network, eps):
    """Logits before each of a few steps of Adam."""
    random = torch.Generator().manual_seed(1)
    x = torch.rand(1, 1, 12, 12, 8, generator=random, dtype=torch.float64)
    target = (torch.rand(1, 2, 12, 12, 8, generator=random) > 0.7).double()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, eps=eps)
    loss = DiceLoss(sigmoid=True, squared_pred=True)
    logits = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        logits.append(network(x))
        loss(logits[-1], target).backward()
        optimizer.step()
    return torch.stack(logits).detach()


# Adam's division by (√v + eps) knows the gradient's scale by eps alone.
@pytest.mark.parametrize(("eps", "atol"), [(0, 1e-12), (1e-8, 1e-5)])
def test_two_stems_and_the_rescaled_one_are_the_same_function_all_along(networks, eps, atol):
    double, rescaled, _ = (course(network, eps) for network in networks)
    torch.testing.assert_close(rescaled, double, rtol=0, atol=atol)
    assert (double[-1] - double[0]).abs().max() > 0.1  # it has learned


def test_a_plain_stem_starts_as_the_same_function_and_goes_another_way(networks):
    double, _, plain = (course(network, 1e-8) for network in networks)
    torch.testing.assert_close(plain[0], double[0], rtol=0, atol=1e-12)
    assert (plain[-1] - double[-1]).abs().max() > 0.1


@pytest.mark.parametrize("stems", [2, 3])
def test_the_rescaled_stem_starts_as_wide_as_a_sum_of_stems(stems):
    torch.manual_seed(0)
    usual = RescaledConv3x3x3(8, 64, stems=1)
    rescaled = RescaledConv3x3x3(8, 64, stems=stems)
    impulse = torch.zeros(1, 8, 5, 5, 5)
    impulse[0, 0, 2, 2, 2] = 1
    spread = [conv(impulse)[..., 1:4, 1:4, 1:4].std().item() for conv in (usual, rescaled)]
    assert spread[1] / spread[0] == pytest.approx(stems**0.5, rel=0.05)


def test_the_rescaled_stem_draws_the_random_numbers_of_a_plain_one():
    torch.manual_seed(0)
    plain = RescaledConv3x3x3(1, 4, stems=1).weight
    torch.manual_seed(0)
    torch.testing.assert_close(RescaledConv3x3x3(1, 4).weight * 2**0.5, plain)
