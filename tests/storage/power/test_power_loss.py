"""Power loss at every moment: what was acknowledged is there, by a model of the nastiest disk.

`KLINE_TRIO_POWER_STATES` lets more states be looked at than the few hundred a scenario in a usual
run.
"""

import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import attrs
import pytest

from tests.storage.faults.scenario import SCENARIOS, Scenario, wrong_with
from tests.storage.faults.shim import built, run_behind, working_folder
from tests.storage.power.disk_model import DiskModel, Files
from tests.storage.power.traced import MUTANTS

_STATES = int(os.environ.get("KLINE_TRIO_POWER_STATES", "300"))
_PAIRS_A_CUT = 4


@attrs.frozen
class Traced:
    """The calls of a scenario's work, and the folder before it."""

    lines: list[list[str]]
    base: Files
    root: PurePosixPath


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp("shim"))


@pytest.fixture
def work(tmp_path: Path) -> Iterator[Path]:
    folder = working_folder(tmp_path)
    folder.mkdir(parents=True)
    yield folder
    shutil.rmtree(folder)


def traced(
    library: Path, work: Path, scenario: Scenario, mutant: str = "none", fails_at: int = 0
) -> Traced:
    root, base, trace = work / "root", work / "base", work / "trace"
    for path in (root, base):
        shutil.rmtree(path, ignore_errors=True)
    trace.write_bytes(b"")
    run_behind(
        library, root, "tests.storage.power.traced", scenario.name, mutant, str(root), str(base),
        str(fails_at), trace=trace,
    )  # fmt: skip
    lines = [line.split("\t") for line in trace.read_text(encoding="utf-8").splitlines()]
    lines = lines[lines.index(["mark", "start"]) + 1 :]
    files: Files = {
        PurePosixPath(path.relative_to(base)): path.read_bytes() if path.is_file() else None
        for path in base.rglob("*")
    }
    return Traced(lines, files, PurePosixPath(root))


def states(run: Traced, scenario: Scenario, seed: int) -> Iterator[tuple[int, int, Files]]:
    """Each different state after a cut: after which line, with how many batches acknowledged."""
    disk = DiskModel.of(run.base)
    chance = random.Random(seed)
    acknowledged = scenario.prepared
    seen: set[tuple[int, int]] = set()
    for number, (name, *arguments) in enumerate(run.lines):
        if name == "mark":
            acknowledged += arguments == ["acknowledged"]
        else:
            disk.call(name, arguments, run.root)
        for files in disk.after_a_cut(chance, _PAIRS_A_CUT):
            key = (acknowledged, hash(frozenset(files.items())))
            if key not in seen:
                seen.add(key)
                yield number, acknowledged, files


def put(files: Files, path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    for place, content in files.items():
        if content is None:
            (path / place).mkdir()
        else:
            (path / place).write_bytes(content)


def problems(run: Traced, scenario: Scenario, work: Path, most: int) -> Iterator[str]:
    """What is wrong with the states, or with a sample of them; ends with how many there were."""
    every = list(states(run, scenario, seed=1))
    if len(every) > most:
        every = [every[n] for n in sorted(random.Random(2).sample(range(len(every)), most))]
    for number, acknowledged, files in every:
        path = work / "cut"
        put(files, path)
        try:
            why = wrong_with(scenario, path, acknowledged)
        except Exception as error:  # noqa: BLE001 - is reported
            why = f"{type(error).__name__}: {error}"
        if why:
            yield f"{scenario.name}, cut after call {number} {run.lines[number][:1]}: {why}"
    assert every


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_what_was_acknowledged_survives_a_power_cut_at_any_moment(
    scenario: Scenario, library: Path, work: Path
) -> None:
    run = traced(library, work, scenario)
    assert sum(1 for _ in states(run, scenario, seed=1)) >= 150
    assert list(problems(run, scenario, work, _STATES)) == []


@pytest.mark.parametrize("mutant", MUTANTS)
def test_the_same_test_finds_each_precaution_that_is_left_out(
    mutant: str, library: Path, work: Path
) -> None:
    wanted = {"forget by key instead of sequence": "a revision amid a merge"}
    name = wanted.get(mutant, "append")
    [scenario] = [one for one in SCENARIOS if one.name == name]
    run = traced(library, work, scenario, mutant)
    assert next(problems(run, scenario, work, 100_000), None) is not None


def test_a_sync_that_failed_is_never_built_on(library: Path, work: Path) -> None:
    """The system drops the pages of a failed sync and calls them clean. So the store gives up, and
    nothing that it acknowledged was among them.
    """
    [scenario] = [one for one in SCENARIOS if one.name == "append"]
    syncs = [
        int(arguments[1])
        for name, *arguments in traced(library, work, scenario).lines
        if name == "fsync"
    ]
    assert len(syncs) >= 8
    gave_up = 0
    for call in syncs:
        run = traced(library, work, scenario, fails_at=call)
        assert any(name == "fsync failed" for name, *_ in run.lines), call
        gave_up += ["mark", "failed"] in run.lines
        assert list(problems(run, scenario, work, 25)) == []
    # SQLite passes over a folder's sync, and over what fails while it closes.
    assert gave_up >= 10
