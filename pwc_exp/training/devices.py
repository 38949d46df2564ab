"""On which devices a run computes: one, several of a host, or those of several hosts.

A run reads the same samples, and takes the same step to rounding, however many there are: the
global batch is cut into one part for each replica, in order.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from pwc_exp.data.sample import Batch
from pwc_exp.errors import ConfigError
from pwc_exp.machine import ALONE, Place, on_slurm, place, slurm_addresses

_TEXT_BYTES = 4096  # that `agree` can carry

Results = Mapping[str, tf.Tensor]


class Replicas:
    """The copies of a network that compute at the same time, and what they say to each other.

    Args:
        strategy: of TensorFlow, which places variables and sums over the replicas.
        where: this process among the workers.
    """

    def __init__(self, strategy: tf.distribute.Strategy, where: Place = ALONE) -> None:
        self.strategy = strategy
        self.count: int = strategy.num_replicas_in_sync
        self.worker, self.workers = where
        self.is_chief = self.worker == 0
        self._local = self.count // self.workers
        self.device_name = "GPU" if tf.config.get_visible_devices("GPU") else "CPU"
        self._sum = tf.function(self._sum_over_workers)
        self._steps: dict[Callable[[Batch], Results], Any] = {}

    @property
    def description(self) -> str:
        """The devices in words."""
        if self.workers > 1:
            return f"{self.count} x {self.device_name} of {self.workers} workers"
        return f"{self.count} x {self.device_name}"

    def scatter(self, batch: Batch) -> Any:
        """Cuts a worker's part of a batch into one part for each of its replicas.

        Of one replica it is `batch` itself.
        """
        if self._local == 1 and self.workers == 1:
            return batch
        size = batch.index.shape[0] // self._local
        first = self.worker * self._local

        def part(context: tf.distribute.experimental.ValueContext) -> Batch:
            start = (context.replica_id_in_sync_group - first) * size
            return Batch(*(values[start : start + size] for values in batch))

        return self.strategy.experimental_distribute_values_from_function(part)

    def each(
        self, step: Callable[[Batch], Results], batches: Iterable[Batch]
    ) -> Iterator[tuple[Batch, Results]]:
        """Runs `step`, which changes nothing, on every batch once; on all replicas at a time.

        Batches of different shapes run one after the other.
        """
        waiting: list[Batch] = []
        for batch in batches:
            if waiting and waiting[0].valid.shape != batch.valid.shape:
                yield from ((one, step(one)) for one in waiting)
                waiting = []
            waiting.append(batch)
            if len(waiting) == self._local:
                yield from self._at_once(step, waiting)
                waiting = []
        yield from ((one, step(one)) for one in waiting)

    def sum_over_workers(self, values: np.ndarray) -> np.ndarray:
        """The sum of all workers' `values`, float32 or int32, of one shape; each gets it."""
        if self.workers == 1:
            return values
        return np.asarray(self._sum(tf.constant(values)))

    def agree(self, text: str) -> str:
        """The chief's `text`, in every process."""
        if self.workers == 1:
            return text
        data = text.encode()
        if len(data) > _TEXT_BYTES:
            raise ValueError(f"A text must have at most {_TEXT_BYTES} bytes. Received: {len(data)}")
        row = np.zeros(_TEXT_BYTES, np.int32)
        if self.is_chief:
            row[: len(data)] = np.frombuffer(data, np.uint8)
        return bytes(self.sum_over_workers(row).astype(np.uint8)).rstrip(b"\0").decode()

    def any(self, flag: bool) -> bool:
        """Whether `flag` is set in any process."""
        return bool(self.sum_over_workers(np.array([flag], np.int32))[0])

    def _at_once(
        self, step: Callable[[Batch], Results], batches: Sequence[Batch]
    ) -> Iterator[tuple[Batch, Results]]:
        if len(batches) == 1:
            yield batches[0], step(batches[0])
            return
        if step not in self._steps:
            self._steps[step] = tf.function(lambda values: self.strategy.run(step, args=(values,)))
        first = self.worker * self._local
        values = self.strategy.experimental_distribute_values_from_function(
            lambda context: batches[context.replica_id_in_sync_group - first]
        )
        results = self._steps[step](values)
        local = {
            name: self.strategy.experimental_local_results(value) for name, value in results.items()
        }
        for number, batch in enumerate(batches):
            yield batch, {name: value[number] for name, value in local.items()}

    def _sum_over_workers(self, values: tf.Tensor) -> tf.Tensor:
        def total() -> tf.Tensor:
            context = tf.distribute.get_replica_context()
            first = context.replica_id_in_sync_group % self._local == 0
            mine = tf.where(first, values, tf.zeros_like(values))
            return context.all_reduce(tf.distribute.ReduceOp.SUM, mine)

        return self.strategy.experimental_local_results(self.strategy.run(total))[0]


def make_replicas(*, gpus: Sequence[int] | None, cpus: int, cluster: bool) -> Replicas:
    """Sets up this process's devices; before anything else of TensorFlow is used.

    Args:
        gpus: numbers of the GPUs to use; None: all. Without a GPU, the processor.
        cpus: devices that the processor stands for; several, to try out what GPUs would do.
        cluster: take part in the cluster that TF_CONFIG or Slurm's variables describe, if they do.

    Raises:
        ConfigError: there is no such GPU.
    """
    present = tf.config.list_physical_devices("GPU")
    chosen = range(len(present)) if gpus is None else gpus
    missing = [number for number in chosen if number >= len(present)]
    if missing:
        raise ConfigError(
            f"devices.gpus must be of the {len(present)} that are there. Received: {missing}"
        )
    tf.config.set_visible_devices([present[number] for number in chosen], "GPU")
    if cpus > 1:
        processor = tf.config.list_physical_devices("CPU")[0]
        logical = [tf.config.LogicalDeviceConfiguration()] * cpus
        tf.config.set_logical_device_configuration(processor, logical)
    names = [f"GPU:{number}" for number in range(len(chosen))]
    if not names and cpus > 1:
        names = [f"CPU:{number}" for number in range(cpus)]
    where = place() if cluster else ALONE
    if where.workers > 1:
        strategy = tf.distribute.MultiWorkerMirroredStrategy(
            cluster_resolver=make_resolver(where, gpus=len(chosen))
        )
    elif len(names) > 1:
        strategy = tf.distribute.MirroredStrategy(names)
    else:
        strategy = tf.distribute.get_strategy()
    return Replicas(strategy, where)


def make_resolver(where: Place, *, gpus: int) -> tf.distribute.cluster_resolver.ClusterResolver:
    """Where the workers of this process's cluster are, and which of them it is."""
    resolvers = tf.distribute.cluster_resolver
    if not on_slurm():
        return resolvers.TFConfigClusterResolver()
    return resolvers.SimpleClusterResolver(
        tf.train.ClusterSpec({"worker": slurm_addresses()}),
        task_type="worker",
        task_id=where.worker,
        num_accelerators={"GPU": gpus},
        rpc_layer="grpc",
    )
