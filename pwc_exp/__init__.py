"""Experiments with PWC-Net optical flow: train, evaluate, predict, driven by Hydra."""

__version__ = "0.1.0"
