"""The mathematics of optical flow: pure functions."""

# An outlier of KITTI has an error above 3 px and above 5 % of the true motion:
# https://www.cvlibs.net/datasets/kitti/eval_scene_flow.php
FL_PIXELS, FL_SHARE = 3.0, 0.05
