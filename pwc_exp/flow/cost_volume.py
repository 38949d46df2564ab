"""The cost volume: the correlation of each pixel of one frame with its neighbourhood in the other.

Features may be normalized before (UFlow, https://arxiv.org/abs/2006.04902).
Letters: B batch, H height, W width, C channels, r search range.
"""

from typing import Any

from keras import ops

from pwc_exp.flow.convolution import uses_tensorflow

Tensor = Any  # a tensor of the Keras backend in use

BLOCK = 8  # least number of pixels of a row in one matrix product
VARIANCE_FLOOR = 1e-6  # of a channel that does not vary


def cost_volume(features1: Tensor, warped2: Tensor, *, search_range: int) -> Tensor:
    """Mean correlation over all displacements up to `search_range` (PWC-Net, eq. 2).

    Args:
        features1: [B, H, W, C], of the first frame.
        warped2: [B, H, W, C], of the second frame, warped to the first; zero outside.
        search_range: r, in pixels of this grid.

    Returns:
        [B, H, W, (2r+1)²]; channel (dy + r)(2r + 1) + dx + r holds the mean over C of
        features1(x, y) · warped2(x + dx, y + dy). Products are summed in float32.
    """
    if uses_tensorflow():
        from pwc_exp.flow import tensorflow_ops  # its own gradient: no 81 retained slices

        return tensorflow_ops.make_cost_volume(search_range)(features1, warped2)
    return portable_cost_volume(features1, warped2, search_range=search_range)


def portable_cost_volume(features1: Tensor, warped2: Tensor, *, search_range: int) -> Tensor:
    """`cost_volume` in operations of any Keras backend, with the backend's own gradient.

    Rows are cut into blocks of b pixels. One matrix product gives the correlations of a block with
    the b + 2r pixels around it in another row; those that are asked for lie in a band of the
    product. 9 such products are 3 times as fast as 81 slices, multiplied and summed.
    """
    r, k = search_range, 2 * search_range + 1
    b = max(BLOCK, 2 * r)
    batch, height, width, channels = ops.shape(features1)
    blocks = -(-width // b)
    beyond = blocks * b - width
    # The rows come first, so that the slice of each row offset below is no copy.
    rows1 = ops.transpose(ops.cast(features1, "float32") * (1.0 / channels), (1, 0, 2, 3))
    rows2 = ops.transpose(ops.cast(warped2, "float32"), (1, 0, 2, 3))
    if not (isinstance(beyond, int) and beyond == 0):  # else it may be any, known only later
        rows1 = ops.pad(rows1, ((0, 0), (0, 0), (0, beyond), (0, 0)))
    rows2 = ops.pad(rows2, ((r, r), (0, 0), (r, b - r + beyond), (0, 0)))  # one block more
    left = ops.reshape(rows1, (height, batch, blocks, b, channels))
    whole = ops.reshape(rows2, (height + 2 * r, batch, blocks + 1, b, channels))
    right = ops.concatenate([whole[:, :, :-1], whole[:, :, 1:, : 2 * r]], axis=3)
    right = ops.swapaxes(right, -1, -2)  # [H + 2r, B, blocks, C, b + 2r]
    bands = []
    for y in range(k):
        product = ops.matmul(left, right[y : y + height])  # [H, B, blocks, b, b + 2r]
        bands.append(_band(product, k))
    costs = ops.reshape(ops.concatenate(bands, axis=-1), (height, batch, blocks * b, k * k))
    costs = ops.transpose(costs[:, :, :width], (1, 0, 2, 3))
    return ops.cast(costs, features1.dtype)


def _band(product: Tensor, count: int) -> Tensor:
    """Entries i, i … i + count - 1 of row i: [..., b, b + count - 1] -> [..., b, count].

    Rows that are one longer make the diagonals columns.
    """
    *outer, rows, columns = ops.shape(product)
    flat = ops.reshape(product, (*outer, rows * columns))
    flat = ops.pad(flat, [(0, 0)] * len(outer) + [(0, rows)])
    return ops.reshape(flat, (*outer, rows, columns + 1))[..., :count]


def normalize(features: Tensor) -> Tensor:
    """Gives each channel of `features` [B, H, W, C] mean 0 and variance 1 over H and W.

    Computed in float32; the result has the dtype of `features`.
    """
    if uses_tensorflow():
        from pwc_exp.flow import tensorflow_ops  # its own gradient: one operation

        return tensorflow_ops.normalize(features)
    return portable_normalize(features)


def portable_normalize(features: Tensor) -> Tensor:
    """`normalize` in operations of any Keras backend, with the backend's own gradient."""
    values = ops.cast(features, "float32")
    mean, variance = ops.moments(values, axes=(1, 2), keepdims=True)
    return ops.cast((values - mean) * ops.rsqrt(variance + VARIANCE_FLOOR), features.dtype)
