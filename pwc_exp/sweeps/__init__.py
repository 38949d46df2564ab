"""Many training runs from one command, below one parent run in MLflow.

A sweep is N times `train resume=auto`: its children are ordinary runs, each a process with a folder
of its own, and a sweep is continued by starting it again.

context.py    what Hydra gives a sweep: composition of children, the folder, the launcher
grid.py       hydra/sweeper=grid: every combination of values
search.py     hydra/sweeper=optuna: the values are proposed by Optuna
study.py      the search space and the Optuna study
runner.py     starts the children, logs their results, and summarizes the sweep
launchers.py  what runs children: processes of this machine, or another launcher of Hydra
results.py    what the folders of the children say: status, metrics, why a child failed
folder.py     sweep.json: the arguments of a sweep, and its children
"""
