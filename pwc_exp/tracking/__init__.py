"""Tracks a run: its folder is the queue, from which MLflow and TensorBoard are brought up to date.

tracker.py              what a command uses; brings the stores up to what the folder holds
journal.py              metrics.jsonl and images.jsonl: all points and pictures
record.py               run.json: what produced a run, how it was resumed and ended; its sweep
mlflow_store.py         the run on a tracking server or in an SQLite file; mlflow.json
tensorboard_store.py    the run in an event file; tensorboard.json
search.py               finds runs in MLflow
registry.py             models in MLflow: the best run of a sweep; an exported network to serve
served_code.py          the code inside an exported network
"""

from pwc_exp.tracking.tracker import Tracker

__all__ = ["Tracker"]
