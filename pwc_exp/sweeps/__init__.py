"""Many runs from one command: a folder, a parent run in MLflow, a process for each child.

children.py  which runs a sweep has, and what they are called
folder.py    sweep.json: what a sweep is, and where its children lie
outcome.py   what became of a child, as its folder tells
shares.py    how the machine is divided: GPUs, or processors, for each child
local.py     children as processes of this machine, some at a time
foreign.py   children through another launcher of Hydra: Slurm, Ray
conduct.py   starts children, follows them, and sums up: on the terminal, as a page, in MLflow
grid.py      a sweep over all combinations of values

A child is an ordinary run. What makes it a child is the `sweep.json` in the folder above its own.
"""
