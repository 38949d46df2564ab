"""Many runs from one command: a folder, a parent run in MLflow, a process for each child.

children.py      which runs a sweep has, and what they are called
folder.py        sweep.json: what a sweep is, and where its children lie
setting.py       what Hydra gives a sweep: composition, folder, launcher
grid.py          a sweep over all combinations of values
search.py        a sweep whose values Optuna proposes
conduct.py       starts children, follows them, and sums up
launch.py        what runs children, whichever it is
local.py         children as processes of this machine, some at a time
shares.py        how the machine is divided: GPUs, or processors, for each child
foreign.py       children through another launcher of Hydra: Slurm, Ray
watching.py      something that is looked at again and again while a block waits
outcome.py       what became of a child, as its folder tells
objective.py     by what children are compared
standing.py      rows of tables, and groups of seeds
registration.py  the best checkpoint as a model in MLflow

A child is an ordinary run. What makes it a child is the `sweep.json` in the folder above its own.
"""
