"""Figures as small PNG."""

from io import BytesIO

from matplotlib.figure import Figure as Canvas
from PIL import Image

_COLOURS = 200
_DPI = 100


def png(canvas: Canvas) -> bytes:
    """Draw with a palette: a third of the bytes of true colour."""
    buffer = BytesIO()
    canvas.savefig(buffer, format="png", dpi=_DPI)
    return few_colours(buffer.getvalue())


def few_colours(picture: bytes) -> bytes:
    """The same picture with a palette."""
    buffer = BytesIO()
    whole = Image.open(BytesIO(picture)).convert("RGB")
    whole.quantize(_COLOURS, dither=Image.Dither.NONE).save(buffer, format="png", optimize=True)
    return buffer.getvalue()
