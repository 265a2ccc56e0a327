"""Environments of users whose locale is not UTF-8."""

import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import pytest

LOCALES = ("ASCII", "en_US.ISO-8859-1", "zh_CN.GB18030")

_FOLDER = tempfile.TemporaryDirectory(prefix="locales-")
"""Where they are made; it goes with the interpreter."""


@cache
def environment_of(name: str) -> dict[str, str]:
    """Return what to set in the environment of a Python that is to have this locale."""
    ours = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": ""}
    if name == "ASCII":
        return {**ours, "LC_ALL": "C"}
    localedef = shutil.which("localedef")
    if localedef is None:
        pytest.skip("no localedef to make a locale with")
    language, encoding = name.split(".")
    place = Path(_FOLDER.name, name)
    made = subprocess.run(
        [localedef, "-i", language, "-f", encoding, place], capture_output=True, check=False
    )
    if not (place / "LC_CTYPE").exists():
        pytest.skip(f"localedef makes no {name}: {made.stderr.decode(errors='replace')}")
    return {**ours, "LC_ALL": name, "LOCPATH": _FOLDER.name}
