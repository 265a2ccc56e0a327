"""Pages that are files outside of `docs/`, and links between those files and the pages.

The files keep their places and their links, which work on a code host. A page such as
`docs/changelog.md` is a stub there; here it gets the text of its file.
"""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

DOCS = Path(__file__).resolve().parents[1]
ROOT = DOCS.parent
PAGES = {
    "benchmarks": ROOT / "benchmarks" / "README.md",
    "changelog": ROOT / "CHANGELOG.md",
    "contributing": ROOT / "CONTRIBUTING.md",
}
"""The file of each page whose text stands outside of `docs/`."""
_STANDS_FOR = {path: DOCS / f"{name}.md" for name, path in PAGES.items()}
_STANDS_FOR[ROOT / "README.md"] = DOCS / "index.md"
_ELSEWHERE = r"(?!https?:|mailto:|#)"
_LINK = re.compile(rf"(!?)\[([^\]]*)\]\({_ELSEWHERE}([^)#\s]+)(#[^)\s]*)?\)")
_IMAGE = re.compile(rf'<img src="{_ELSEWHERE}([^"]+)"([^>]*)>')


def with_links_from_docs(text: str, home: Path) -> str:
    """Return the text of a file with its relative links as a page in `docs/` has to write them.

    A link to a file that is no page becomes a download. A link to a folder becomes plain text. A
    picture that is not there is left out: the browser test makes some.

    Args:
      text: Markdown.
      home: the folder in which the links begin.
    """

    def path_from_docs(link: str) -> Path:
        path = Path(os.path.normpath(home / link))
        return Path(os.path.relpath(_STANDS_FOR.get(path, path), DOCS))

    def rewritten(match: re.Match[str]) -> str:
        mark, label, link, fragment = match.groups(default="")
        path = path_from_docs(link)
        if mark or path.parts[0] != "..":
            return f"{mark}[{label}]({path}{fragment})"
        return label if (DOCS / path).is_dir() else f"[{label}](<path:{path}>)"

    def shown(match: re.Match[str]) -> str:
        path = path_from_docs(match[1])
        return f'<img src="{path}"{match[2]}>' if (DOCS / path).exists() else ""

    return _LINK.sub(rewritten, _IMAGE.sub(shown, text))


def read_page(app: "Sphinx", name: str, source: list[str]) -> None:
    """Put the text of a page's file in the place of its stub, and mend the links of the page."""
    path = PAGES.get(name)
    if path is None:
        source[0] = with_links_from_docs(source[0], DOCS)
    else:
        source[0] = with_links_from_docs(path.read_text(encoding="utf-8"), path.parent)
        # A changed file makes Sphinx build its page again.
        app.env.note_dependency(str(path))


def setup(app: "Sphinx") -> dict[str, Any]:
    """Register the extension."""
    app.connect("source-read", read_page)
    return {"parallel_read_safe": True}
