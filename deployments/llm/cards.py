"""Draws a typographic card: a headline on a quiet background, the same for the same words and size.

It knows no HTTP.
"""

import hashlib
import io
from colorsys import hls_to_rgb
from typing import Final

from PIL import Image, ImageDraw, ImageFont

SIZES: Final = ("256x256", "512x512", "1024x1024", "1024x1536", "1536x1024", "1024x1792", "1792x1024")
DEFAULT_SIZE: Final = "1024x1024"
_MAX_CHARACTERS: Final = 160


def draw_card(text: str, size: str = DEFAULT_SIZE) -> bytes:
    """PNG of the text's first paragraph; `size` is one of SIZES. The colours come from the words.

    What follows a blank line says how the picture should look, and is for models that can follow it.
    """
    width, height = (int(part) for part in size.split("x"))
    headline = _shorten(" ".join(text.strip().split("\n\n")[0].split()))
    digest = hashlib.sha256(headline.encode()).digest()
    hue = digest[0] / 255
    dark, light = _colour(hue, 0.17, 0.45), _colour(hue + 0.08, 0.34, 0.4)
    paper, accent = _colour(hue, 0.96, 0.5), _colour(hue + 0.45, 0.68, 0.75)
    gradient = Image.linear_gradient("L").rotate(30 + digest[1] % 40, expand=True).crop((70, 70, 250, 250))
    card = Image.composite(
        Image.new("RGB", (width, height), light),
        Image.new("RGB", (width, height), dark),
        gradient.resize((width, height)),
    )
    drawing = ImageDraw.Draw(card, "RGBA")
    _draw_rings(drawing, width, height, digest, accent)
    margin = min(width, height) // 10
    lines, font = _fit(headline, width - 2 * margin, int(height * 0.55))
    spacing = font.size * 1.22
    top = (height - spacing * len(lines)) / 2
    bar = max(4, margin // 10)
    drawing.rectangle((margin, top - margin * 0.55, margin + margin, top - margin * 0.55 + bar), fill=accent)
    for index, line in enumerate(lines):
        drawing.text((margin, top + index * spacing), line, font=font, fill=paper)
    buffer = io.BytesIO()
    card.save(buffer, "PNG", optimize=False, compress_level=6)
    return buffer.getvalue()


def _draw_rings(
    drawing: ImageDraw.ImageDraw, width: int, height: int, digest: bytes, accent: tuple[int, int, int]
) -> None:
    centre_x, centre_y = width * (0.78 + digest[2] / 1500), height * (0.12 + digest[3] / 3000)
    step = min(width, height) / 11
    for ring in range(1, 6):
        radius = ring * step
        box = (centre_x - radius, centre_y - radius, centre_x + radius, centre_y + radius)
        drawing.ellipse(box, outline=(*accent, 110 - ring * 18), width=max(2, width // 340))


def _fit(text: str, width: int, height: int) -> tuple[list[str], ImageFont.FreeTypeFont]:
    """The largest font in which the text fits the box, and its lines."""
    size = max(12, height // 4)
    while True:
        font = ImageFont.load_default(size)
        if not isinstance(font, ImageFont.FreeTypeFont):
            raise RuntimeError("Pillow is built without FreeType: install Pillow's own wheel.")
        lines = _wrap(text, font, width)
        fits = len(lines) * size * 1.22 <= height and all(font.getlength(line) <= width for line in lines)
        if fits or size <= 12:
            return lines, font
        size = int(size * 0.92)


def _wrap(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    lines: list[str] = []
    for word in text.split():
        if lines and font.getlength(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def _shorten(text: str) -> str:
    return text if len(text) <= _MAX_CHARACTERS else text[:_MAX_CHARACTERS].rsplit(" ", 1)[0] + " …"


def _colour(hue: float, lightness: float, saturation: float) -> tuple[int, int, int]:
    red, green, blue = hls_to_rgb(hue % 1, lightness, saturation)
    return round(red * 255), round(green * 255), round(blue * 255)
