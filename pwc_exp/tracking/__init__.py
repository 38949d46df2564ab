"""Follows a run: a journal in its folder first, then TensorBoard and MLflow, a thread for each.

tracker.py      what a command uses
journal.py      metrics.jsonl, the truth
sender.py       a thread that feeds one store and outlives its failures
events.py       what is sent
tensorboard.py  a store: event files
mlflow_run.py   a store: a run on a tracking server or in an SQLite file
system.py       load of the machine, for MLflow
provenance.py   what produced a run: commit, command line, versions
"""

from pwc_exp.tracking.tracker import Tracker

__all__ = ["Tracker"]
