"""Each engine that is installed reads the same rows from a lake.

`python -m tests.lake.engines --python PROGRAM` does it with those that exclude our requirements.
"""

import sys

import pytest

from tests.lake.engine_readers import ENGINES
from tests.lake.engines import COMPACTED_ONLY, Lakes, NotInstalledError, differences

ALWAYS = ("polars", "duckdb", "duckdb-dataset", "dask")
"""They are in `dev`."""


@pytest.fixture(scope="module")
def lakes(tmp_path_factory: pytest.TempPathFactory) -> Lakes:
    return Lakes.make(tmp_path_factory.mktemp("lakes"))


@pytest.mark.parametrize("state", ["published", "compacted"])
@pytest.mark.parametrize("name", list(ENGINES))
def test_an_engine_reads_what_was_published(lakes: Lakes, name: str, state: str) -> None:
    try:
        found = differences(name, getattr(lakes, state), lakes.truth, sys.executable)
    except NotInstalledError as error:
        assert name not in ALWAYS
        pytest.skip(f"NO {str(error).upper()} IS INSTALLED")
    if state == "published" and name in COMPACTED_ONLY:
        # Once an engine can, it can be taken off the list.
        assert "view" in found[0].lower()
    else:
        assert found == []


def test_rows_that_an_engine_lacks_are_noticed(lakes: Lakes) -> None:
    fewer = lakes.truth.slice(1)
    assert differences("polars", lakes.published, fewer, sys.executable) == [
        f"all: {lakes.truth.num_rows} rows, {fewer.num_rows} wanted, or others"
    ]
