"""Reads the result file of a fine-tuning job and draws its curve.

It knows no provider beyond the CSV shape that OpenAI's job API made common: a step column and one per metric.
"""

import base64
import binascii
import csv
import io
import math
from typing import NamedTuple


class Point(NamedTuple):
    """The value of a metric at a step."""

    metric: str
    step: int
    value: float


class ResultError(ValueError):
    """The result file is not what it should be."""


def decode_results(content: bytes) -> str:
    """The CSV's text; some providers hand it out in base64."""
    head = content.lstrip()[:4]
    if head != b"step":
        try:
            content = base64.b64decode(content, validate=True)
        except binascii.Error:
            raise ResultError("the result file is neither CSV with a step column nor base64 of one") from None
    return content.decode("utf-8-sig")


def parse_results(text: str) -> list[Point]:
    """Every finite number of the file, in order of step; empty cells mean "not measured at this step"."""
    reader = csv.DictReader(io.StringIO(text))
    if "step" not in (reader.fieldnames or ()):
        raise ResultError(f"the result file has no column 'step', only {reader.fieldnames}")
    points = []
    for row in reader:
        try:
            step = int(float(row["step"]))
        except (TypeError, ValueError):
            raise ResultError(f"line {reader.line_num}: {row['step']!r} is no step") from None
        for metric, cell in row.items():
            if metric in (None, "step") or not isinstance(cell, str) or not cell.strip():
                continue
            try:
                value = float(cell)
            except ValueError:
                continue
            if math.isfinite(value):
                points.append(Point(metric, step, value))
    return points


def draw_curve(points: list[Point], title: str) -> bytes:
    """The loss curves as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for metric in sorted({point.metric for point in points if "loss" in point.metric}):
        chosen = [point for point in points if point.metric == metric]
        marker = "o" if len(chosen) < 20 else None
        axes.plot([p.step for p in chosen], [p.value for p in chosen], marker=marker, label=metric)
    axes.set(xlabel="step", ylabel="loss", title=title)
    axes.grid(alpha=0.3)
    if axes.has_data():
        axes.legend()
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()
