import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta

SCRIPT = "import logging; from shared.log_lines import write_log; write_log('INFO'); logging.info('it began')"


def test_a_line_has_its_time_in_utc_wherever_the_machine_stands() -> None:
    before = datetime.now(UTC)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**os.environ, "TZ": "Pacific/Auckland"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    found = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ) INFO root: it began\n", done.stderr)
    assert found, done.stderr
    assert abs(datetime.fromisoformat(found[1]) - before) < timedelta(hours=1)
