"""A drawing as SVG text: boxes, words and arrows on a white ground, readable in light and dark pages."""

from __future__ import annotations

from html import escape

INK, PALE = "#24292f", "#d0d7de"
COLOURS = {"blue": "#9ecbff", "orange": "#ffd8a8", "green": "#b2e0b8", "purple": "#d9c8f5", "grey": "#e6e8eb"}
"""Fills that black words can be read on."""


class Drawing:
    """A picture of `width` x `height` pixels.

    Args:
        width, height: its size.
        title: what it shows, for those who cannot see it.
    """

    def __init__(self, width: int, height: int, title: str) -> None:
        self._parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}"'
            f' height="{height}"'
            f' font-family="system-ui, sans-serif" font-size="13" role="img" aria-label="{escape(title)}">',
            f"<title>{escape(title)}</title>",
            '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7"'
            ' orient="auto">'
            f'<path d="M0 0 8 4 0 8z" fill="{INK}"/></marker></defs>',
            f'<rect width="{width}" height="{height}" rx="6" fill="white"/>',
        ]

    def box(
        self, x: float, y: float, width: float, height: float, colour: str, text: str = "", size: int = 12
    ) -> None:
        """A box with words in its middle."""
        self._parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" fill="{COLOURS[colour]}" '
            f'stroke="{INK}" stroke-width="0.7"/>'
        )
        if text:
            self.text(x + width / 2, y + height / 2 + size / 3, text, size=size, anchor="middle")

    def text(self, x: float, y: float, text: str, *, size: int = 13, anchor: str = "start") -> None:
        """Words, their base line at `y`."""
        self._parts.append(
            f'<text x="{x:g}" y="{y:g}" font-size="{size}" text-anchor="{anchor}" fill="{INK}">{escape(text)}</text>'
        )

    def arrow(self, x0: float, y0: float, x1: float, y1: float) -> None:
        """An arrow from (x0, y0) to (x1, y1)."""
        self._parts.append(
            f'<line x1="{x0:g}" y1="{y0:g}" x2="{x1:g}" y2="{y1:g}" stroke="{INK}" marker-end="url(#head)"/>'
        )

    def line(self, x0: float, y0: float, x1: float, y1: float) -> None:
        """A dashed line."""
        self._parts.append(
            f'<line x1="{x0:g}" y1="{y0:g}" x2="{x1:g}" y2="{y1:g}" stroke="{INK}" stroke-dasharray="4 3"/>'
        )

    def __str__(self) -> str:
        return "\n".join([*self._parts, "</svg>\n"])
