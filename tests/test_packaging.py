"""What is published: the files of wheel and sdist, their metadata, and that the wheel works."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest
import tomli

import kline_trio
from tests.documents import newcomers_environment

ROOT = Path(__file__).resolve().parents[1]
VERSION = kline_trio.__version__
HERE = sys.version_info[:2]
_OFFLINE = re.compile(
    r"NewConnectionError|NameResolutionError|ConnectTimeout|Connection (broken|refused)"
)


def run(*words: str | Path, **settings: object) -> str:
    """Run a program and return its stdout.

    Raises:
      AssertionError: its exit status is not 0.
    """
    done = subprocess.run(
        [*map(str, words)], capture_output=True, text=True, check=False, timeout=600, **settings
    )  # type: ignore[call-overload]
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return str(done.stdout)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that is built from the sdist; a second's work."""
    place = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", place, ROOT)
    return place


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    return built / f"kline_trio-{VERSION}-py3-none-any.whl"


def tracked(*folders: str) -> set[str]:
    """Return the files of folders that the next commit has.

    A clone has no others. A file that `.gitignore` hides would be in no wheel of CI.
    """
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *folders],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if listed.returncode:
        pytest.skip("the files are compared with those of a repository: this folder is none")
    return {name for name in listed.stdout.splitlines() if (ROOT / name).is_file()}


def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        text = archive.read(f"kline_trio-{VERSION}.dist-info/METADATA").decode()
    return Parser().parsestr(text)


def licences() -> set[str]:
    project = tomli.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return {
        str(path.relative_to(ROOT)) for glob in project["license-files"] for path in ROOT.glob(glob)
    }


def test_the_wheel_has_the_package_and_its_licences_and_nothing_else(wheel: Path) -> None:
    """The files of the page and recorder.toml among them; no test."""
    about = f"kline_trio-{VERSION}.dist-info"
    with zipfile.ZipFile(wheel) as archive:
        assert archive.testzip() is None
        names = set(archive.namelist())
    wanted = {f"{about}/{name}" for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt")}
    wanted |= {f"{about}/licenses/{name}" for name in licences()}
    assert names == tracked("kline_trio") | wanted
    assert {"kline_trio/py.typed", "kline_trio/recorder.toml"} <= names
    assert f"{about}/licenses/LICENSE" in names


def test_the_sdist_has_what_a_wheel_is_made_of(built: Path) -> None:
    with tarfile.open(built / f"kline_trio-{VERSION}.tar.gz") as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    beside = {".gitignore", "CHANGELOG.md", "CITATION.cff", "LICENSE", "PKG-INFO", "README.md"}
    assert names == tracked("kline_trio") | beside | {"pyproject.toml", "recorder.toml"}


def test_the_package_page_has_absolute_links_and_urls(wheel: Path) -> None:
    about = metadata(wheel)
    assert (about["Name"], about["Version"]) == ("kline-trio", VERSION)
    assert about["Description-Content-Type"] == "text/markdown"
    urls = dict(url.split(", ") for url in about.get_all("Project-URL") or [])
    assert set(urls) == {"Homepage", "Documentation", "Source", "Changelog", "Issues"}
    assert all(url.startswith(f"{urls['Homepage']}") for url in urls.values())
    text = about.get_payload()
    assert isinstance(text, str)
    links = re.findall(r"\]\(([^)]+)\)", text) + re.findall(r'\b(?:src|srcset)="([^"]+)"', text)
    assert len(links) > 10
    for link in links:
        assert link.startswith("https://"), link
        ours = re.fullmatch(rf"https://\S+?/v{re.escape(VERSION)}/([^#]+)(?:#.*)?", link)
        if "kline-trio" in link:
            assert ours is not None, link
            assert (ROOT / ours[1]).exists(), link


def test_version_and_date_are_one() -> None:
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## (\S+)(?: - (\d{4}-\d\d-\d\d))?$", changes, re.MULTILINE)
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {VERSION}\n" in citation
    assert newest is not None
    if newest[1] != "Unreleased":
        assert newest[1] == VERSION
        assert f"\ndate-released: {newest[2]}\n" in citation
    assert f"kline_trio-{VERSION}-py3-none-any.whl" in (ROOT / "README.md").read_text("utf-8")


def interpreters() -> Iterator[tuple[tuple[int, int], Path]]:
    """Give each Python of this machine that kline_trio supports, besides the one that runs here.

    Looked for in the path, and where pyenv and uv put them.
    """
    home = Path.home()
    pyenv = Path(os.environ.get("PYENV_ROOT", home / ".pyenv")) / "versions"
    places = [*pyenv.glob("*/bin"), *(home / ".local/share/uv/python").glob("*/bin")]
    for minor in range(11, 20):
        if (3, minor) == HERE:
            continue
        name = f"python3.{minor}"
        for path in (shutil.which(name), *(place / name for place in places)):
            if path is not None and _works(Path(path)):
                yield (3, minor), Path(path)
                break


def _works(python: Path) -> bool:
    """Return whether a Python runs and can make environments. A shim may stand for none."""
    try:
        done = subprocess.run(
            [python, "-c", "import ensurepip, venv"], capture_output=True, check=False, timeout=60
        )
    except OSError:
        return False
    return done.returncode == 0


OTHERS = dict(interpreters())


def check_that_it_runs(programs: Path, folder: Path, environment: dict[str, str]) -> None:
    """Let the installed program name its version, and record from the built-in exchange."""
    folder.mkdir()
    kline = programs / "kline-trio"
    settings = {"cwd": folder, "env": environment}
    assert run(kline, "--version", **settings) == f"kline_trio {VERSION}\n"
    run(kline, "init", **settings)
    run(kline, "recorder.toml", "--simulate", "--for", "5s", **settings)
    code = (
        "import kline_trio; print(len(kline_trio.read('data-simulated', 'spot', 'BTCUSDT', '1m')))"
    )
    assert int(run(programs / "python", "-c", code, **settings)) >= 2


def test_the_wheel_works_in_a_fresh_environment(wheel: Path, tmp_path: Path) -> None:
    """With the packages that the tests have: nothing is downloaded."""
    environment = newcomers_environment(tmp_path / "newcomer")
    run("python3", "-m", "venv", tmp_path / "fresh", env=environment)
    programs = tmp_path / "fresh" / "bin"
    run(programs / "pip", "install", "-q", wheel, env=environment)
    check_that_it_runs(programs, tmp_path / "empty", environment)


@pytest.mark.slow
@pytest.mark.skipif(not OTHERS, reason=f"no Python but {HERE[0]}.{HERE[1]} is at hand")
@pytest.mark.parametrize("version", OTHERS or [HERE], ids=lambda one: f"{one[0]}.{one[1]}")
def test_the_wheel_works_on_each_python_at_hand(
    wheel: Path, tmp_path: Path, version: tuple[int, int]
) -> None:
    """Its dependencies are downloaded for that Python, or come from pip's cache."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
        "PIP_RETRIES": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    run(OTHERS[version], "-m", "venv", tmp_path / "fresh", env=environment)
    programs = tmp_path / "fresh" / "bin"
    done = subprocess.run(
        [programs / "pip", "install", "-q", "--only-binary", ":all:", wheel],
        capture_output=True, text=True, check=False, env=environment, timeout=600,
    )  # fmt: skip
    if done.returncode and _OFFLINE.search(done.stderr):
        pytest.skip(f"Python {version[0]}.{version[1]}: no index of packages can be reached")
    assert done.returncode == 0, done.stderr
    check_that_it_runs(programs, tmp_path / "empty", environment)
