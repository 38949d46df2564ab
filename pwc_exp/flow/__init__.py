"""The mathematics of optical flow: pure functions."""
