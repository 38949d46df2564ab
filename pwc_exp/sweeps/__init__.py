"""Many training runs from one command, below one parent run in MLflow.

A sweep is N times `train resume=auto`: its children are ordinary runs, each a process with a folder
of its own, and a sweep is continued by starting it again.

sweeper.py    what Hydra gives a sweep; hydra/sweeper=grid: every combination of values
search.py     hydra/sweeper=optuna: the values are proposed by an Optuna study
space.py      the space of a search, in the grammar of Hydra's sweeps
runner.py     starts the children, logs their results, and summarizes the sweep
launchers.py  what runs children: processes of this machine, or another launcher of Hydra
folder.py     sweep.json, and what the folders of the children say
report.py     the page of a sweep, and its tables
"""
