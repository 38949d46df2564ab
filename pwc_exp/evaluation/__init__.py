"""Evaluation: the errors of estimated flow on data sets, and how evaluations differ.

evaluator.py      the command `evaluate`
compare.py        the command `compare`
flow_sources.py   frames -> flow: a network, an exported network, files, baselines
sample_scores.py  the sums of one sample
metrics.py        the metrics by name: sums and counts, units, means
protocols.py      metric definitions of benchmarks and other codebases
bootstrap.py      confidence intervals, and tests of differences
summary.py        all that an evaluation found
records.py        what an evaluation writes, and how it is read back
report.py         an evaluation as text and as a page

Only `evaluator`, `flow_sources` and `report` import TensorFlow. docs/evaluation.md has the
formulas.
"""

from pwc_exp.evaluation.metrics import METRICS, means
from pwc_exp.evaluation.sample_scores import Field, GroundTruth, score

__all__ = ["METRICS", "Field", "GroundTruth", "means", "score"]
