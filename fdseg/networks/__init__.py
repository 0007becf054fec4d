"""The paper's U-Net, and the wrapper that gives any backbone frequency-disentangled learning."""

from fdseg.networks.conv import RescaledConv3x3x3
from fdseg.networks.disentangled import SegmentationNetwork
from fdseg.networks.unet import ResidualUNet

__all__ = ["RescaledConv3x3x3", "ResidualUNet", "SegmentationNetwork"]
