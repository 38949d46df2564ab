"""An independent bilinear warp, and the eight ways in which a flow can be misread."""

from itertools import product

import numpy as np

Reading = tuple[bool, int, int]  # swapped, sign of x, sign of y
RIGHT: Reading = (False, 1, 1)
_MOST_POINTS = 20_000


def warping_error(
    frame1: np.ndarray, frame2: np.ndarray, flow: np.ndarray, mask: np.ndarray
) -> float:
    """Mean of |frame2(x + flow(x)) - frame1(x)| over points of the mask that stay inside."""
    height, width = mask.shape
    rows, columns = np.nonzero(mask)
    step = 1 + len(rows) // _MOST_POINTS
    rows, columns = rows[::step], columns[::step]
    x, y = columns + flow[rows, columns, 0], rows + flow[rows, columns, 1]
    inside = (x >= 0) & (y >= 0) & (x <= width - 1) & (y <= height - 1)
    warped = sample(frame2, x[inside], y[inside])
    return float(np.abs(warped - frame1[rows[inside], columns[inside]]).mean())


def sample(image: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Reads image, [H, W, C], bilinearly at points inside of it."""
    left = np.minimum(x.astype(int), image.shape[1] - 2)
    top = np.minimum(y.astype(int), image.shape[0] - 2)
    right_share, down_share = (x - left)[:, None], (y - top)[:, None]
    upper = image[top, left] * (1 - right_share) + image[top, left + 1] * right_share
    lower = image[top + 1, left] * (1 - right_share) + image[top + 1, left + 1] * right_share
    return upper * (1 - down_share) + lower * down_share


def errors_of_readings(
    frame1: np.ndarray, frame2: np.ndarray, flow: np.ndarray, mask: np.ndarray
) -> dict[Reading, float]:
    """The error after warping by the flow as it is, and by its seven misreadings."""
    errors = {}
    for swapped, sign_x, sign_y in product((False, True), (1, -1), (1, -1)):
        read = (flow[..., ::-1] if swapped else flow) * [sign_x, sign_y]
        errors[swapped, sign_x, sign_y] = warping_error(frame1, frame2, read, mask)
    return errors


def right_reading_is_best(errors: dict[Reading, float], factor: float = 1.0) -> bool:
    """Whether flow as it is explains frame 1 `factor` times better than all seven misreadings.

    A tie counts: with no motion down, turning its sign changes nothing.
    """
    wrong = [error for reading, error in errors.items() if reading != RIGHT]
    return errors[RIGHT] * factor <= min(wrong) and errors[RIGHT] < max(wrong)
