"""Checkpoints: every variable of a run at a step, in a folder that can be verified.

    <folder>/step-00001000/state.safetensors    every variable, by name
    <folder>/step-00001000/manifest.json        step, progress, metrics, versions, sha256 of both

state.py     the variables of a live run: listed and assigned
folder.py    checkpoints on disk: written, verified, ranked and removed
"""

from pwc_exp.checkpoints.folder import (
    FORMAT,
    MANIFEST_FILE,
    STATE_FILE,
    Checkpoint,
    Manifest,
    Scalar,
    best,
    best_and_last,
    latest,
    list_checkpoints,
    load,
    newest_intact,
    read_manifest,
    retain,
    save,
)
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
    "best_and_last",
    "latest",
    "list_checkpoints",
    "load",
    "named_state",
    "newest_intact",
    "read_manifest",
    "restore",
    "retain",
    "save",
    "weights_of",
]
