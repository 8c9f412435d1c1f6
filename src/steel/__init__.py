"""A solution kit for the Kaggle competition *Severstal: Steel Defect Detection*."""

__version__ = "0.1.0"
