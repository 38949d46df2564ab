"""What an estimate is worth: every metric as sums over one sample, divided once, at the end.

sample.py      the entry point: `score(estimate, truth)` gives the sums of one sample
boundaries.py  how far each pixel is from an edge of motion or of an occlusion
metrics.py     the metrics by name: which sum over which count, their units, their means
dialects.py    the same sums by the definitions of benchmarks and other projects
intervals.py   bootstrap: how far a mean, or a difference of two, could lie from what was measured

Arrays are numpy's, or tensors that numpy can read. docs/evaluation.md has the formulas.
"""

from pwc_exp.scoring.metrics import METRICS, means
from pwc_exp.scoring.sample import Field, Truth, score

__all__ = ["METRICS", "Field", "Truth", "means", "score"]
