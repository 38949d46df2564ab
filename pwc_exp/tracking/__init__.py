"""Follows a run: a journal in its folder first, then TensorBoard and MLflow, a thread for each.

tracker.py      what a command uses
parent.py       the sweep that a run is a child of
record.py       run.json: what a run is, how it was resumed and how it ended
journal.py      metrics.jsonl, the truth
sender.py       a thread that feeds one store and outlives its failures
events.py       what is sent
tensorboard.py  a store: an event file, made again from the journal at a resume
mlflow_run.py   a store: a run on a tracking server or in an SQLite file
connection.py   the way to that server or file
ledger.py       mlflow.json: which run in MLflow it is, and how much of it is there
catch_up.py     sends what MLflow lacks of a run that has ended
registry.py     the best run of a sweep, as a version of a model of MLflow
system.py       load of the machine, for MLflow
provenance.py   what produced a run: commit, command line, versions
model.py        a model of MLflow around a SavedModel, for its server
search.py       finds runs in MLflow
served_code.py  what runs inside such a model
"""

from pwc_exp.tracking.tracker import Tracker

__all__ = ["Tracker"]
