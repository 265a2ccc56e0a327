"""How Sphinx builds the documentation: `python -m sphinx -W -b html docs docs/_build`."""

import sys
from pathlib import Path

_DOCS = Path(__file__).parent
sys.path[:0] = [str(_DOCS / "_ext"), str(_DOCS.parent)]

from kline_trio import __version__  # noqa: E402 - of this folder, and not an installed one

project = "kline_trio"
author = "the authors of kline_trio"
release = version = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "files_of_the_repository",
    "keys_of_the_configuration",
    "words_of_the_command_line",
]
exclude_patterns = ["_build", "_ext", "_static"]
highlight_language = "text"

myst_enable_extensions = ["colon_fence", "html_image"]
# GitHub's anchors of headings, down to the keys and codes.
myst_heading_anchors = 4

# Docstrings write `names` between single backticks, as Markdown does.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
napoleon_numpy_docstring = False
napoleon_use_rtype = False

html_theme = "furo"
html_title = f"kline_trio {release}"
html_show_copyright = False
html_copy_source = False
html_static_path = ["_static"]
html_css_files = ["site.css"]
