"""The search for good values of knobs: what is asked for, tried, stopped early and drawn.

space.py   which values a search may take, from Hydra's grammar of sweeps
study.py   what has been tried and what to try next, in Optuna's journal
watch.py   what a run has reached, from its metrics.jsonl while it is written
plots.py   pictures of a study

Nothing here knows how a run is started, or that there is an MLflow. `study` and `plots` import
Optuna, the extra `tune`; `space` and `watch` do not.
"""
