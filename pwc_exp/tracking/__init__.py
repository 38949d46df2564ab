"""Tracks a run: its folder is the queue, from which MLflow and TensorBoard are brought up to date.

tracker.py              what a command uses
journal.py              metrics.jsonl and images.jsonl: all points and pictures
record.py               run.json: what a run is, how it was resumed and how it ended; its sweep
sync.py                 brings the stores up to what the folder holds, once or in a thread
mlflow_store.py         the run on a tracking server or in an SQLite file; mlflow.json
tensorboard_store.py    the run in an event file; tensorboard.json
provenance.py           what produced a run: commit, command line, versions
search.py registry.py   finds runs in MLflow; registers the best run of a sweep as a model
model.py served_code.py an MLflow model around a SavedModel, for MLflow's server
"""

from pwc_exp.tracking.tracker import Tracker

__all__ = ["Tracker"]
