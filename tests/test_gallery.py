"""The worst and the best of many samples, few of them drawn."""

import numpy as np

from pwc_exp.gallery import Gallery, Tiles


class Drawn:
    """Counts what is drawn."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> Tiles:
        self.count += 1
        return {}


def shown(errors: list[float], count: int) -> tuple[Gallery, int]:
    gallery, drawn = Gallery(count), Drawn()
    for number, error in enumerate(errors):
        gallery.offer(error, number, str(number), drawn)
    return gallery, drawn.count


def test_of_many_samples_the_worst_and_the_best_are_kept_in_order() -> None:
    errors = np.random.default_rng(0).permutation(1000).astype(float).tolist()
    gallery, drawn = shown(errors, 3)
    assert [s.aepe for s in gallery.worst] == [999, 998, 997]
    assert [s.aepe for s in gallery.best] == [0, 1, 2]
    assert [errors[s.number] for s in gallery.best] == [0, 1, 2]
    assert drawn < 100


def test_of_few_samples_none_is_shown_twice() -> None:
    gallery, drawn = shown([2.0, 1.0, 3.0], 2)
    assert [s.aepe for s in gallery.worst] == [3, 2]
    assert [s.aepe for s in gallery.best] == [1]
    assert drawn == 3


def test_a_sample_without_an_error_and_a_gallery_of_none_draw_nothing() -> None:
    assert shown([float("nan")], 2)[1] == 0
    assert shown([1.0], 0)[1] == 0
