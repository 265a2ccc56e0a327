"""The footer's checksum: with it and the pages' own, no flipped bit changes a row in silence."""

import io
import random
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from kline_trio.errors import DamagedError, KlineTrioError
from kline_trio.storage.files import crc32_of, open_parquet
from kline_trio.storage.footer_crc import SEAL, is_sealed
from kline_trio.storage.reader import read
from tests.storage.support import write_minutes

_FLIPS = 20_000


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """A file of 300 candles, in a store without a journal to help."""
    write_minutes(tmp_path, 300, 0).close()
    return tmp_path / "spot_BTCUSDT_1m.pqt"


def test_a_written_file_is_sealed(target: Path) -> None:
    """Others see one more entry among the metadata, and nothing else."""
    content = target.read_bytes()
    assert is_sealed(io.BytesIO(content), target)
    metadata = pq.read_metadata(target).metadata
    assert metadata is not None
    assert int(metadata[SEAL.encode()], 16)
    assert len(pd.read_parquet(target)) == 300


def test_a_file_without_a_seal_is_passed_by(tmp_path: Path) -> None:
    """As files of other programs, and of the first version, are."""
    for content in (b"", b"PAR1", b"no Parquet at all", b"PAR1\0\0\0\0PAR1"):
        assert not is_sealed(io.BytesIO(content), tmp_path)


def test_no_flipped_bit_is_read_in_silence(target: Path) -> None:
    """Each of 20,000 raises, or reads back the same rows and columns; and `check` finds them all,
    since each changes the CRC of the whole file.
    """
    content = target.read_bytes()
    whole = read(target.parent, "spot", "BTCUSDT", "1m")
    crc32 = crc32_of(target)
    bits = random.Random(3).sample(range(len(content) * 8), _FLIPS)
    raised = 0
    for bit in bits:
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        target.write_bytes(flipped)
        assert crc32_of(target) != crc32
        try:
            frame = read(target.parent, "spot", "BTCUSDT", "1m")
        except KlineTrioError:
            raised += 1
        else:
            assert frame.equals(whole), f"bit {bit}"
            assert frame.index.name == whole.index.name, f"bit {bit}"
    assert raised > 0.8 * _FLIPS


def test_a_flipped_bit_in_a_footer_is_named(target: Path) -> None:
    """Every byte of it counts, the seal's own too."""
    content = target.read_bytes()
    length_bytes = int.from_bytes(content[-8:-4], "little")
    for at in range(len(content) - 8 - length_bytes, len(content)):
        flipped = bytearray(content)
        flipped[at] ^= 4
        target.write_bytes(flipped)
        with pytest.raises(DamagedError, match=target.name), open_parquet(target):
            pass
