"""All mutants. One that survives asks for a test; one whose line has moved, for a new line."""

from tests.mutation.calendar_mutants import CALENDAR
from tests.mutation.completeness_mutants import COMPLETENESS
from tests.mutation.doctor_mutants import DOCTOR
from tests.mutation.exchange_mutants import EXCHANGE
from tests.mutation.lake_reader_mutants import LAKE_READERS
from tests.mutation.lake_upkeep_mutants import LAKE_UPKEEP
from tests.mutation.monitor_mutants import MONITOR
from tests.mutation.mutant import Mutant
from tests.mutation.page_mutants import PAGE
from tests.mutation.pruned_mutants import PRUNED
from tests.mutation.recorder_mutants import RECORDER
from tests.mutation.row_mutants import ROWS
from tests.mutation.storage_mutants import STORAGE
from tests.mutation.web_mutants import WEB

__all__ = ["MUTANTS"]

MUTANTS: tuple[Mutant, ...] = (
    *STORAGE,
    *ROWS,
    *EXCHANGE,
    *RECORDER,
    *COMPLETENESS,
    *DOCTOR,
    *MONITOR,
    *CALENDAR,
    *WEB,
    *PAGE,
    *LAKE_READERS,
    *LAKE_UPKEEP,
    *PRUNED,
)
