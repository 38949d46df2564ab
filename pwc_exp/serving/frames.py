"""From the body of a request to its two frames.

Letters: H height, W width.
"""

import base64
import binascii
import json
import re
from email.message import Message
from http import HTTPStatus
from pathlib import Path

import numpy as np

from pwc_exp.data.formats.headers import read_header
from pwc_exp.data.formats.images import decode_frame
from pwc_exp.errors import DataError
from pwc_exp.serving.limits import Refusal

NAMES = ("frame1", "frame2")
_FIELD_NAME = re.compile(rb'content-disposition:[^\r\n]*\bname="([^"\r\n]*)"', re.IGNORECASE)


def read_frames(body: bytes, content_type: str, *, max_pixels: int) -> list[np.ndarray]:
    """Two frames of one size, uint8 [H, W, 3] each, RGB.

    Args:
        body: JSON {"frame1": base64 of an image file, "frame2": ...}, or multipart/form-data with
            the two files in fields of these names.
        content_type: the header that says which.
        max_pixels: of a frame; larger ones are not decoded.

    Raises:
        Refusal: anything else.
    """
    header = Message()
    header["content-type"] = content_type
    match header.get_content_type():
        case "application/json":
            files = _from_json(body)
        case "multipart/form-data":
            files = _from_multipart(body, str(header.get_param("boundary", "")).encode())
        case other:
            raise Refusal(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                f"Content-Type must be application/json or multipart/form-data. Received: {other}",
            )
    missing = [name for name in NAMES if not files.get(name)]
    if missing:
        raise _bad(f"frame1 and frame2 must be given. Missing: {', '.join(missing)}")
    frames = [_decode(name, files[name], max_pixels) for name in NAMES]
    if frames[0].shape != frames[1].shape:
        sizes = " and ".join(f"{frame.shape[0]} x {frame.shape[1]}" for frame in frames)
        raise _bad(f"Both frames must be of one size (height x width). Received: {sizes}")
    return frames


def _from_json(body: bytes) -> dict[str, bytes]:
    try:
        values = json.loads(body)
        return {name: base64.b64decode(values[name], validate=True) for name in NAMES}
    except KeyError as error:
        raise _bad(f"The JSON object must have {' and '.join(NAMES)}. Missing: {error}") from error
    except (ValueError, TypeError, RecursionError, binascii.Error) as error:
        raise _bad(
            f'The body must be JSON, {{"frame1": base64 of an image file, "frame2": ...}}; {error}'
        ) from error


def _from_multipart(body: bytes, boundary: bytes) -> dict[str, bytes]:
    files = {}
    if boundary:
        for part in (b"\r\n" + body).split(b"\r\n--" + boundary)[1:]:
            head, _, content = part.partition(b"\r\n\r\n")
            if name := _FIELD_NAME.search(head):
                files[name[1].decode(errors="replace")] = content
    return files


def _decode(name: str, content: bytes, max_pixels: int) -> np.ndarray:
    try:
        size = read_header(Path(name), content, len(content)).size
        if size.height * size.width > max_pixels:
            raise Refusal(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"{name} must have at most {max_pixels} pixels. "
                f"Received: {size.height} x {size.width}",
            )
        frame = decode_frame(Path(name), content)
    except DataError as error:
        raise _bad(str(error)) from error
    return np.rint(frame * 255).astype(np.uint8)


def _bad(message: str) -> Refusal:
    return Refusal(HTTPStatus.BAD_REQUEST, message)
