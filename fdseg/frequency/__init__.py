"""Splitting volumes into frequency bands and fusing features of the bands.

A :class:`Split` has two methods: ``low, high = split(x)`` for volumes, and
``split.fuse(high, low)`` for the features that networks made of them.
"""

from fdseg.frequency.box import BoxSplit
from fdseg.frequency.controls import OneBandSplit, WholeSplit
from fdseg.frequency.learnable import LearnableSplit
from fdseg.frequency.mask import MaskSplit
from fdseg.frequency.released import ReleasedSplit
from fdseg.frequency.split import Split

__all__ = [
    "BoxSplit",
    "LearnableSplit",
    "MaskSplit",
    "OneBandSplit",
    "ReleasedSplit",
    "Split",
    "WholeSplit",
]
