"""Pictures and clips from strangers, decoded within bounds."""

import base64
import binascii
import io
from collections.abc import Iterator

import av
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from natural_video_llm.sessions.video import upright

MOST_CLIP_S = 60.0
_MOST_CLIP_FRAMES = 1800
# A playlist or a list of files would have the demuxer open addresses and files of this machine.
_CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg"


class BadPictureError(ValueError):
    """What a client sent is no picture or clip that is taken; says why."""


def decode_picture(content: bytes, most_px: int, formats: tuple[str, ...] = ("JPEG", "WEBP")) -> np.ndarray:
    """rgb [H, W, 3] uint8, the right way up. The size is read before anything is decoded.

    Raises:
        BadPictureError: it is none of the `formats`, is damaged, or has more than `most_px` pixels.
    """
    try:
        with Image.open(io.BytesIO(content), formats=formats) as picture:
            width_px, height_px = picture.size
            if width_px * height_px > most_px:
                raise BadPictureError(f"{width_px} x {height_px} pixels are too many; send at most {most_px}")
            picture.load()
            rgb = np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))
    except BadPictureError:
        raise
    except UnidentifiedImageError:
        raise BadPictureError(f"this is no picture ({', '.join(formats)} are taken)") from None
    except Exception:  # a decoder fed with damaged data fails in many ways
        raise BadPictureError("the picture is damaged") from None
    return np.ascontiguousarray(rgb)


def decode_clip(content: bytes, most_px: int) -> Iterator[tuple[float, np.ndarray]]:
    """Yield (seconds from the first frame, rgb [H, W, 3] uint8) of a clip in memory.

    Raises:
        BadPictureError: it is no video, damaged, longer than `MOST_CLIP_S`, or has more than `most_px` pixels.
    """
    options = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "none"}
    try:
        with av.open(io.BytesIO(content), "r", options=options) as container:
            if not container.streams.video:
                raise BadPictureError("the clip holds no video")
            stream = container.streams.video[0]
            stream.thread_type = "SLICE"
            _check_size(stream.codec_context.width, stream.codec_context.height, most_px)
            yield from _frames(container, stream, most_px)
    except BadPictureError:
        raise
    except (av.FFmpegError, OSError, ValueError, MemoryError):
        raise BadPictureError("the clip is damaged or of a kind that is not taken (MP4, WebM, MPEG)") from None


def _frames(
    container: av.container.InputContainer, stream: av.VideoStream, most_px: int
) -> Iterator[tuple[float, np.ndarray]]:
    first_s: float | None = None
    for number, frame in enumerate(container.decode(stream)):
        _check_size(frame.width, frame.height, most_px)
        if frame.time is None:
            continue
        first_s = frame.time if first_s is None else first_s
        if number >= _MOST_CLIP_FRAMES or frame.time - first_s > MOST_CLIP_S:
            raise BadPictureError(f"the clip is too long; send at most {MOST_CLIP_S:.0f} seconds")
        yield frame.time - first_s, upright(frame)


def _check_size(width_px: int, height_px: int, most_px: int) -> None:
    if width_px * height_px > most_px:
        raise BadPictureError(f"{width_px} x {height_px} pixels are too many; send at most {most_px}")


def data_of_url(url: str) -> bytes:
    """The content of a `data:` address in base64; no other address is opened.

    Raises:
        BadPictureError: it is another kind of address, or no base64.
    """
    head, comma, body = url.partition(",")
    if not head.startswith("data:") or not comma or not head.endswith(";base64"):
        raise BadPictureError("give the content itself as data:…;base64,…; addresses are not opened")
    try:
        return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError):
        raise BadPictureError("the data: address holds no base64") from None
