"""Several sources as one."""

import hashlib
from collections.abc import Callable, Sequence

import tensorflow as tf

from pwc_exp.data.sample import Example, Part, Source
from pwc_exp.errors import UserError


class MixedSource:
    """The examples of `sources`, one source after the other; ids begin with their source's name.

    weights: how many examples are drawn from each, relative to the others; None: all examples are
    equally likely, whichever source they are of.
    labels: what each is called in place of its name; sources of one label are reported as one.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        *,
        weights: Sequence[float] | None,
        labels: Sequence[str | None] | None = None,
    ) -> None:
        labels = labels or [None] * len(sources)
        named = zip(labels, sources, strict=True)
        names = distinct([label or source.name for label, source in named])
        self.labels = [label or name for label, name in zip(labels, names, strict=True)]
        self.name = "+".join(names)
        self.size = sum(source.size for source in sources)
        self.ids: Sequence[str] = [
            f"{name}/{sample_id}"
            for name, source in zip(names, sources, strict=True)
            for sample_id in source.ids
        ]
        self.parts: Sequence[Part] = (Part(self.size, 1.0),)
        if weights is not None:
            pairs = zip(sources, weights, strict=True)
            self.parts = [Part(source.size, weight) for source, weight in pairs]
        recipe = [(source.digest, source.size) for source in sources]
        self.digest = hashlib.sha256(repr((recipe, weights)).encode()).hexdigest()[:16]
        self.members: Sequence[tuple[str, Source]] = list(zip(names, sources, strict=True))
        self._sources = list(sources)
        self._starts = [sum(s.size for s in sources[:number]) for number in range(len(sources))]

    def example(self, index: tf.Tensor) -> Example:
        """Example `index` of the source that has it."""
        which = tf.searchsorted(self._starts, [tf.cast(index, tf.int32)], side="right")[0] - 1

        def of(source: Source, start: int) -> Callable[[], Example]:
            return lambda: source.example(index - start)

        branches = [of(*pair) for pair in zip(self._sources, self._starts, strict=True)]
        example = tf.switch_case(which, branches)
        for part, channels in zip(example, ((3,), (3,), (2,), ()), strict=True):
            part.set_shape((None, None, *channels))
        return example

    def failure(self, index: int) -> UserError | None:
        """Why example `index` cannot be read."""
        which = max(n for n, start in enumerate(self._starts) if start <= index)
        return self._sources[which].failure(index - self._starts[which])


def distinct(names: Sequence[str]) -> list[str]:
    """Gives names that occur more than once a number."""
    return [
        f"{name}-{names[:place].count(name) + 1}" if names.count(name) > 1 else name
        for place, name in enumerate(names)
    ]
