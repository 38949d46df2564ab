"""Where a run computes, as far as the bits of its results depend on it."""

import os
import platform
from pathlib import Path

import tensorflow as tf

from pwc_exp.cluster import processors
from pwc_exp.distribution import Replicas
from pwc_exp.tracking.provenance import library_versions


def environment(replicas: Replicas) -> dict[str, str]:
    """What the bits of a result depend on beside the configuration."""
    threads = tf.config.threading
    return {
        **library_versions(),
        "processor": processor_name(),
        "threads": f"{threads.get_intra_op_parallelism_threads() or len(processors())}",
        "onednn": os.environ.get("TF_ENABLE_ONEDNN_OPTS", "1"),
        "devices": f"{replicas.count} {replicas.device_name} in {replicas.workers} processes",
    }


def processor_name() -> str:
    """The model of the processor."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
