"""kill -9 and failing calls, at every call that journal, merge and recovery make of the disk."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.storage.faults.shim import built, run_behind, working_folder


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp("shim"))


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    folder = working_folder(tmp_path)
    folder.mkdir(parents=True)
    yield folder
    shutil.rmtree(folder)


def campaign(library: Path, root: Path, kind: str) -> dict[str, Any]:
    # All points by hand: it takes ten minutes.
    said = run_behind(library, root, "tests.storage.faults.campaign", kind, str(root), "3")
    told: dict[str, Any] = json.loads(said.splitlines()[-1])
    print(told)
    return told


def test_kill_9_at_any_call_loses_nothing(library: Path, root: Path) -> None:
    """Whenever it hits, also twice in a row: what was acknowledged is there, batches are there
    whole or not at all, every file under its name is whole, and the next start goes on.
    """
    told = campaign(library, root, "kill")
    assert told["first"] == []
    assert told["points"] >= 700
    assert told["killed"] >= 0.6 * told["points"]


@pytest.mark.parametrize("kind", ["EIO", "ENOSPC", "EDQUOT", "EROFS", "full"])
def test_any_failing_call_is_an_error_that_loses_nothing(
    kind: str, library: Path, root: Path
) -> None:
    """At each call: a DiskError or success, never another error; and where it was for want of
    room, the same store goes on when there is room again.
    """
    told = campaign(library, root, kind)
    assert told["first"] == []
    assert told["points"] >= (80 if kind in ("EDQUOT", "EROFS") else 230)
    assert told["failed"] >= 0.3 * told["points"]


def test_a_write_that_is_cut_short_is_gone_on_with(library: Path, root: Path) -> None:
    """The system may write less than it was asked to, and that is no error."""
    told = campaign(library, root, "short")
    assert told["first"] == []
    assert told["points"] >= 150


def test_the_shim_sees_every_write_that_the_system_sees(library: Path, root: Path) -> None:
    """Else there would be points at which nothing was tried."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not here to compare with")
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from tests.storage.faults.scenario import SCENARIOS\n"
        "from tests.storage.faults.shim import Shim\n"
        "def accept(store, batch): store.journal.accept(batch)\n"
        "shim = Shim()\n"
        "for number, scenario in enumerate(SCENARIOS):\n"
        "    scenario.prepare(Path(sys.argv[1], f'p{number}'))\n"
        "shim.disarm()\n"
        "Path('/kline-trio-mark').exists()\n"
        "for number, scenario in enumerate(SCENARIOS):\n"
        "    scenario.work(Path(sys.argv[1], f'p{number}'), accept)\n"
        "Path('/kline-trio-mark').exists()\n"
        "print(shim.count())\n"
    )
    log = root.with_name(f"{root.name}.strace")
    wanted = "write,pwrite64,writev,pwritev,fsync,fdatasync,ftruncate,rename,renameat,renameat2"
    wanted += ",unlink,unlinkat,mkdir,mkdirat,link,linkat,openat,open,stat,newfstatat"
    wanted += ",fallocate,truncate,copy_file_range,sendfile"
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("COV")
    } | {"PYTHONPATH": os.pathsep.join(sys.path)}
    try:
        done = subprocess.run(
            [
                strace, "-f", "-y", "-o", log, "-e", f"trace={wanted}",
                "-E", f"LD_PRELOAD={library}", "-E", f"KT_SHIM_ROOT={root}",
                sys.executable, "-c", code, str(root),
            ],
            env=environment, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        if done.returncode:
            pytest.skip(f"strace may not trace here: {done.stderr[-300:]}")
        lines = log.read_text(errors="replace").splitlines()
    finally:
        log.unlink(missing_ok=True)
    marks = [number for number, line in enumerate(lines) if '"/kline-trio-mark"' in line]
    seen = [
        line
        for line in lines[marks[0] + 1 : marks[-1]]
        if str(root) in line
        and not ("openat(" in line and "O_CREAT" not in line and "O_TRUNC" not in line)
        and "stat" not in line.split("(")[0]
        # A line of the log names the store too.
        and "write(2<" not in line
    ]
    assert int(done.stdout) == len(seen)
