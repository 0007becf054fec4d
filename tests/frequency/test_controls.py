"""Splits that take something away take away that and nothing else."""

import pytest
import torch

from fdseg.errors import FdsegError
from fdseg.frequency import BoxSplit, LearnableSplit, OneBandSplit, ReleasedSplit, WholeSplit

X = torch.randn(2, 3, 14, 13, 5, generator=torch.Generator().manual_seed(0))


def test_the_whole_split_gives_the_volume_twice_and_adds_features():
    split = WholeSplit()
    assert all(band is X for band in split(X))
    assert torch.equal(split.fuse(X, 2 * X), 3 * X)
    assert list(split.parameters()) == []


@pytest.mark.parametrize("inner", [BoxSplit(0.4), ReleasedSplit(0.4)], ids=["box", "released"])
@pytest.mark.parametrize(("band", "kept"), [("low", 0), ("high", 1)])
def test_one_band_is_kept_and_the_other_is_zero(inner, band, kept):
    bands = OneBandSplit(inner, band)(X)
    both = inner(X)
    assert torch.equal(bands[kept], both[kept])
    assert torch.equal(bands[1 - kept], torch.zeros_like(both[1 - kept]))


def test_features_of_one_band_are_fused_as_those_of_both():
    inner = BoxSplit(0.4)
    low, high = inner(X)
    assert torch.equal(OneBandSplit(inner, "low").fuse(high, low), inner.fuse(high, low))


def test_the_bands_alone_add_up_to_the_volume():
    parts = []
    for band in ("low", "high"):
        split = OneBandSplit(BoxSplit(0.4), band)
        low, high = split(X)
        parts.append(split.fuse(high, low))
    torch.testing.assert_close(sum(parts), X)


def test_what_the_inner_split_learns_is_told():
    assert float(OneBandSplit(LearnableSplit(0.25), "low").learned()["theta"]) == 0.25
    assert OneBandSplit(BoxSplit(0.25), "low").learned() == {}


def test_an_unknown_band_is_refused():
    with pytest.raises(FdsegError, match=r"^split\.band=middle: expected low or high"):
        OneBandSplit(BoxSplit(), "middle")
