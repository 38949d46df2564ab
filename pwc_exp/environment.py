"""Where a run computes, as far as the bits of its results depend on it."""

import os

import tensorflow as tf

from pwc_exp import processor
from pwc_exp.cluster import processors
from pwc_exp.distribution import Replicas
from pwc_exp.tracking.provenance import library_versions


def environment(replicas: Replicas) -> dict[str, str]:
    """What the bits of a result depend on beside the configuration."""
    threads = tf.config.threading
    return {
        **library_versions(),
        "processor": processor.model_name(),
        "threads": f"{threads.get_intra_op_parallelism_threads() or len(processors())}",
        "onednn": os.environ.get("TF_ENABLE_ONEDNN_OPTS", "1"),
        "devices": f"{replicas.count} {replicas.device_name} in {replicas.workers} processes",
    }
