"""Checkpoints: every variable of a run at a step, in a folder that proves itself intact.

    <folder>/step-00001000/state.safetensors    every variable, by name
    <folder>/step-00001000/manifest.json        step, progress, metrics, versions, sha256 of both

manifest.py     what a checkpoint says about itself
files.py        one checkpoint: written and read
folder.py       the checkpoints of a run: the last, the best, those that stay
state.py        the variables of a live run: listed and set
"""

from pwc_exp.checkpoints.files import STATE_FILE, Checkpoint, load, save
from pwc_exp.checkpoints.folder import best, latest, list_checkpoints, newest_intact, retain, shown
from pwc_exp.checkpoints.manifest import FORMAT, MANIFEST_FILE, Manifest, Scalar
from pwc_exp.checkpoints.state import (
    EMA_PREFIX,
    MODEL_PREFIX,
    OPTIMIZER_PREFIX,
    Variable,
    assign_weights,
    named_state,
    restore,
    weights_of,
)

__all__ = [
    "EMA_PREFIX",
    "FORMAT",
    "MANIFEST_FILE",
    "MODEL_PREFIX",
    "OPTIMIZER_PREFIX",
    "STATE_FILE",
    "Checkpoint",
    "Manifest",
    "Scalar",
    "Variable",
    "assign_weights",
    "best",
    "latest",
    "list_checkpoints",
    "load",
    "named_state",
    "newest_intact",
    "restore",
    "retain",
    "save",
    "shown",
    "weights_of",
]
