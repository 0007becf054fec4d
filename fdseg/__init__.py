"""fdseg: paired experiments on frequency-disentangled 3-D medical image segmentation."""

__version__ = "0.1.0"
