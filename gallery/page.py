"""figures/index.html, all figures on one self-contained page, and two texts: RESULTS.md, every claim with its verdict, and
REPLICATION.md, what both papers publish beside ours."""

import base64
import functools
import io
import re
import textwrap
from collections import Counter
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape
from PIL import Image

from gallery import wording
from gallery.claims import Figure
from gallery.content import Content
from gallery.replication import named
from gallery.runs import together

HERE = Path(__file__).parent
PAPERS = re.compile(r"arXiv[ :](?P<arxiv>\d{4}\.\d{4,5})|(?P<doi>\b10\.\d{4,}/[^\s,;]*[^\s,;:.)])")


def page(content: Content) -> str:
    """The complete page."""
    style = Markup((HERE / "page.css").read_text(encoding="utf-8"))
    return _rendered("page.html.jinja", content, style=style)


def text(content: Content, name: str) -> str:
    """A text by the name of its template, with prose in lines of at most 128 columns."""
    lines = re.sub(r"\n{3,}", "\n\n", _rendered(f"{name}.md.jinja", content)).splitlines()
    return "\n".join(line if line.startswith(("|", "#")) else _wrapped(line) for line in lines) + "\n"


def _rendered(template: str, content: Content, **more: Any) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=jinja2.select_autoescape(["html.jinja"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"linked": linked, "named": named, "plain": plain, "unlinked": unlinked, "picture": picture}
    claims = [claim for figure in content.figures for claim in figure.claims]
    experiments: dict[str, list[Figure]] = {}
    for figure in sorted(content.figures, key=lambda figure: figure.experiment):
        experiments.setdefault(figure.experiment, []).append(figure)
    return environment.get_template(template).render(
        content._asdict(),
        experiments=experiments,
        claims=claims,
        claimed={figure.stem for figure in content.figures},
        counts=Counter((claim.kind, claim.written, claim.verdict) for claim in claims),
        changed=sum(claim.uncorrected != claim.verdict for claim in claims),
        wording=wording,
        every=together(content.runs.values()),
        **more,
    )


def picture(path: Path) -> str:
    """The attributes of an image: its content, and its size on a screen, half of that of the file."""
    return _attributes(path.read_bytes())


@functools.cache  # some pictures are on the page twice
def _attributes(content: bytes) -> str:
    with Image.open(io.BytesIO(content)) as image:
        packed, (width, height) = io.BytesIO(), image.size
        colors = image.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        colors.convert("RGB").save(packed, "WEBP", lossless=True)
    text = base64.b64encode(packed.getvalue()).decode()
    return Markup(f'src="data:image/webp;base64,{text}" width="{width // 2}" height="{height // 2}"')


def linked(text: str) -> Markup:
    """Text in which arXiv numbers and DOIs are links."""

    def link(found: re.Match[str]) -> str:
        address = f"https://arxiv.org/abs/{found['arxiv']}" if found["arxiv"] else f"https://doi.org/{found['doi']}"
        return f'<a href="{address}">{found[0]}</a>'

    return Markup(PAPERS.sub(link, escape(text)))


def plain(text: str) -> str:
    """Text with Markdown's special characters escaped; angle brackets, which not all Markdown can escape, as entities."""
    return re.sub(r"[\\`*_\[\]|#]", r"\\\g<0>", text).replace("<", "&lt;").replace(">", "&gt;")


def unlinked(text: str) -> str:
    """Markdown without bold type, whose links are only their text: the page is a single file."""
    return re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text).replace("**", "").replace("`", "")


def _wrapped(line: str) -> str:
    indent = "  " if line.startswith("* ") else ""
    return textwrap.fill(line, 128, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False)
