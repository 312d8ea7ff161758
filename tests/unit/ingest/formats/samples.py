"""A document of each format, made here: bytes that a test can read, spoil or cut."""

import json
import zipfile
from collections.abc import Callable
from datetime import date, datetime
from email.message import EmailMessage
from io import BytesIO

import docx
import fpdf
import openpyxl
import pptx

WHEN = datetime(2026, 11, 24, 9, 30)
PARAGRAPH = "An event wakes a Dag, which then looks for itself what has changed since the last time it ran."


def make_docx() -> bytes:
    made = docx.Document()
    made.core_properties.title, made.core_properties.author = "Assets", "Ada Lovelace"
    made.core_properties.modified = WHEN
    made.add_heading("Assets", 0)
    made.add_heading("Events", 1)
    made.add_paragraph(PARAGRAPH)
    made.add_heading("Who sends them", 2)
    made.add_paragraph("tasks", style="List Bullet")
    made.add_paragraph("people", style="List Bullet")
    table = made.add_table(rows=2, cols=2)
    for index, text in enumerate(("name", "does", "up", "starts")):
        table.cell(index // 2, index % 2).text = text
    return _save(made.save)


def make_pptx() -> bytes:
    made = pptx.Presentation()
    made.core_properties.title, made.core_properties.author = "Assets", "Ada Lovelace"
    made.core_properties.modified = WHEN
    first = made.slides.add_slide(made.slide_layouts[1])
    first.shapes.title.text = "Events"
    first.placeholders[1].text_frame.text = PARAGRAPH
    item = first.placeholders[1].text_frame.add_paragraph()
    item.text, item.level = "from a task", 1
    first.notes_slide.notes_text_frame.text = "Say this slowly."
    second = made.slides.add_slide(made.slide_layouts[5])
    second.shapes.title.text = "Commands"
    table = second.shapes.add_table(2, 2, 0, 0, 100, 100).table
    for index, text in enumerate(("name", "does", "up", "starts")):
        table.cell(index // 2, index % 2).text = text
    group = second.shapes.add_group_shape()
    group.shapes.add_textbox(0, 0, 10, 10).text_frame.text = "in a group"
    return _save(made.save)


def make_xlsx(rows: int = 1) -> bytes:
    made = openpyxl.Workbook()
    made.properties.title, made.properties.creator, made.properties.modified = "Assets", "Ada Lovelace", WHEN
    sheet = made.active
    sheet.title = "Commands"
    sheet.append(["name", "does", "since", "share"])
    for _ in range(rows):
        sheet.append(["up | start", "starts\nall", date(2026, 11, 24), 0.1 + 0.2])
    made.create_sheet("Empty")
    made.create_sheet("Numbers").append([1, None, True])
    return _save(made.save)


def make_pdf(pages: int = 2, password: str = "", text: str = PARAGRAPH) -> bytes:
    made = fpdf.FPDF()
    made.set_title("Assets")
    made.set_author("Ada Lovelace")
    made.set_creation_date(WHEN)
    made.set_font("helvetica", size=12)
    for number in range(pages):
        made.add_page()
        if text:
            made.multi_cell(0, text=f"Page {number + 1}. {text}")
    if password:
        made.set_encryption(owner_password="owner", user_password=password)
    return bytes(made.output())


def make_eml(plain: str = PARAGRAPH, html: str = "", charset: str = "utf-8") -> bytes:
    made = EmailMessage()
    made["Subject"], made["From"] = "Assets: was fehlt, für alle", "Ada Lovelace <ada@example.org>"
    made["Date"] = "Tue, 24 Nov 2026 09:30:00 +0000"
    if plain:
        made.set_content(plain, charset=charset)
    if html:
        made.add_alternative(html, subtype="html")
    made.add_attachment(b"%PDF-1.7", maintype="application", subtype="pdf", filename="figures.pdf")
    return made.as_bytes()


def make_ipynb() -> bytes:
    cells = [
        {"cell_type": "markdown", "source": ["# Assets\n", "\n", PARAGRAPH]},
        {
            "cell_type": "code",
            "source": "print('```')",
            "outputs": [
                {"output_type": "stream", "text": ["```\n", "x" * 5000]},
                {"output_type": "display_data", "data": {"image/png": "aGk=", "text/plain": "<Figure>"}},
                {"output_type": "error", "ename": "ValueError", "evalue": "no", "traceback": ["\x1b[0m"]},
            ],
        },
    ]
    metadata = {"language_info": {"name": "python"}, "authors": [{"name": "Ada Lovelace"}]}
    return json.dumps({"nbformat": 4, "metadata": metadata, "cells": cells}).encode()


MARKDOWN = (
    f"---\ntitle: Assets\nauthor: Ada Lovelace\ndate: 2026-11-24\n---\n# Assets\n\n## Events\n\n{PARAGRAPH}\n"
)
RST = f"""Assets
======

:Author: Ada Lovelace
:Date: 2026-11-24

Events
------

{PARAGRAPH}

.. code-block:: python

   print("**no emphasis**")

.. deprecated:: 3.0
   Use *assets* instead of :class:`Dataset`.

.. include:: /etc/passwd

.. raw:: html
   :url: file:///etc/passwd

.. |now| date::

It is now |now|.

========  ========
name      does
========  ========
up        starts
========  ========
"""
HTML = f"""<!DOCTYPE html><html lang="en-GB"><head><title>Assets</title>
<meta name="author" content="Ada Lovelace"><meta property="article:published_time" content="2026-11-24T09:30:00Z">
<style>p {{ color: red }}</style><script>track()</script></head>
<body><header>Site name</header><nav><a href="/">Home</a></nav>
<main><header><h1>Assets<a class="headerlink" href="#assets">¶</a></h1></header>
<h2>Events</h2><p>{PARAGRAPH} See <a href="https://example.org/events" title="t">the guide</a> or
<a href="../other.html">another page</a>.</p>
<div class="highlight-python"><pre>def run():
    asset_of_mine = 1
</pre></div>
<img src="data:image/png;base64,AAAA" alt="a diagram"><!-- hidden -->
<table><thead><tr><th>name</th><th>does</th></tr></thead><tbody><tr><td>up</td><td>starts</td></tr></tbody></table>
</main><aside>Related</aside><footer>© Company</footer></body></html>"""

SAMPLES: dict[str, Callable[[], bytes]] = {
    "a.md": MARKDOWN.encode,
    "a.txt": f"Assets\n\n{PARAGRAPH}\n".encode,
    "a.html": HTML.encode,
    "a.pdf": make_pdf,
    "a.docx": make_docx,
    "a.pptx": make_pptx,
    "a.xlsx": make_xlsx,
    "a.csv": b"name;does\nup;starts\ndown;stops\n".strip,
    "a.rst": RST.encode,
    "a.ipynb": make_ipynb,
    "a.eml": make_eml,
}


def replace_part(package: bytes, name: str, content: bytes) -> bytes:
    """An Office document with one of its parts replaced or added."""
    made = BytesIO()
    with zipfile.ZipFile(BytesIO(package)) as old, zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as new:
        for part in old.infolist():
            if part.filename != name:
                new.writestr(part.filename, old.read(part))
        new.writestr(name, content)
    return made.getvalue()


def _save(save: Callable[[BytesIO], object]) -> bytes:
    file = BytesIO()
    save(file)
    return file.getvalue()
