"""The paper's U-Net, and the wrapper that gives any backbone frequency-disentangled learning."""

from fdseg.networks.disentangled import SegmentationNetwork
from fdseg.networks.unet import ResidualUNet

__all__ = ["ResidualUNet", "SegmentationNetwork"]
