"""A sample of `python -m tests.lake.upkeep_faults`."""

from pathlib import Path

import pytest

from tests.lake.servers import LossyProxy, Server
from tests.lake.upkeep_faults import UpkeepCampaign

_FAULTS = 10


@pytest.mark.parametrize("seed", range(2))
def test_lost_and_failed_answers_remove_nothing_too_early(
    tmp_path: Path, lossy: tuple[LossyProxy, Server], seed: int
) -> None:
    proxy, server = lossy
    campaign = UpkeepCampaign(tmp_path, proxy, server, seed)
    try:
        campaign.play(_FAULTS)
    finally:
        campaign.close()
    assert sum(campaign.outcomes.values()) == _FAULTS
