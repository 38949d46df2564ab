"""What KITTI calls an outlier: off by more than 3 px and more than 5 % of the true motion."""

FL_PIXELS, FL_SHARE = 3.0, 0.05  # https://www.cvlibs.net/datasets/kitti/eval_scene_flow.php
