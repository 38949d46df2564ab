"""Evaluation: the errors of estimated flow on data sets, and how evaluations differ.

evaluator.py      the command `evaluate`
compare.py        the command `compare`
flow_sources.py   frames -> flow: a network, an exported network, files, baselines
metrics.py        the sums of one sample, and the metrics made of them
protocols.py      metric definitions of benchmarks and other codebases
bootstrap.py      confidence intervals, and tests of differences
records.py        what an evaluation found, how it is written and read back
report.py         an evaluation as text and as a page

Only `evaluator`, `flow_sources` and `report` import TensorFlow. docs/evaluation.md has the
formulas.
"""

from pwc_exp.evaluation.metrics import METRICS, Field, GroundTruth, means, score

__all__ = ["METRICS", "Field", "GroundTruth", "means", "score"]
