"""Reading a run imports neither torch nor NumPy."""

import subprocess
import sys

READERS = "tickdsl.records, tickdsl.results.table, tickdsl.results.export, tickdsl.results.plain_progress"


def test_reading_a_run_loads_no_torch() -> None:
    code = f"import sys, {READERS}; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
