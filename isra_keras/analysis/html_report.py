"""One HTML file with everything inside: opens from disk, asks nobody for anything."""

import base64
import html
from pathlib import Path

from isra_keras.analysis import style

CSS = """body{font:16px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#222}
figure{margin:2rem 0}img{max-width:100%;height:auto}figcaption{color:#444;font-size:.92rem}code{font-size:.85rem;
background:#f3f3f3;padding:.1rem .3rem;overflow-wrap:anywhere}table{border-collapse:collapse;font-size:.9rem}
td,th{border-bottom:1px solid #ddd;padding:.2rem .7rem;text-align:left}td.n{text-align:right;
font-variant-numeric:tabular-nums}nav a{margin-right:1rem}"""


class HtmlReport:
    """Collects sections and writes them as one page.

    Args:
        title: of the page.
        command: the command that makes it again; stands under every figure.
    """

    def __init__(self, title, command):
        self.title, self.command, self.parts, self.sections = title, command, [], []

    def section(self, title):
        """Begins a section."""
        anchor = f"s{len(self.sections)}"
        self.sections.append((anchor, title))
        self.parts.append(f'<h2 id="{anchor}">{html.escape(title)}</h2>')

    def paragraph(self, text):
        """A paragraph of plain text."""
        self.parts.append(f"<p>{html.escape(text)}</p>")

    def figure(self, path, caption):
        """A PNG, embedded, with its caption, the name of its file and the command that made it."""
        path = Path(path)
        data = base64.b64encode(path.read_bytes()).decode("ascii")
        text = html.escape(caption)
        files = path.name + (f", {path.stem}.svg" if path.with_suffix(".svg").is_file() else "")
        self.parts.append(
            f'<figure><img src="data:image/png;base64,{data}" alt="{text}"><figcaption>{text}<br>'
            f"{html.escape(files)} · <code>{html.escape(self.command)}</code></figcaption></figure>"
        )

    def table(self, header, rows):
        """A table; numbers are set to the right."""
        head = "".join(f"<th>{html.escape(str(cell))}</th>" for cell in header)
        body = "".join("<tr>" + "".join(_cell(cell) for cell in row) + "</tr>" for row in rows)
        self.parts.append(f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")

    def write(self, path):
        """Writes the page atomically; returns the path."""
        links = "".join(f'<a href="#{anchor}">{html.escape(title)}</a>' for anchor, title in self.sections)
        title = html.escape(self.title)
        style.write_text(
            path,
            f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{title}</title><meta name="viewport" '
            f'content="width=device-width"><style>{CSS}</style></head><body><h1>{title}</h1><nav>{links}</nav>'
            + "\n".join(self.parts)
            + "</body></html>\n",
        )
        return Path(path)


def _cell(value):
    number = isinstance(value, (int, float)) or str(value).rstrip("%").strip().replace(".", "").lstrip("+-").isdigit()
    return f'<td class="n">{html.escape(str(value))}</td>' if number else f"<td>{html.escape(str(value))}</td>"
