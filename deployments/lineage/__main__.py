"""`python -m deployments.lineage`: the relay, put together from the settings.

It knows no rule.
"""

import logging
import os
import signal
import threading
from typing import Any

from deployments.lineage.delivery import Deliverer
from deployments.lineage.relay import Relay
from deployments.lineage.sinks.marquez import MarquezSink
from deployments.lineage.store import LineageStore
from shared.ledger.sessions import create_sessions
from shared.log_lines import write_log
from shared.settings import get_settings

WORKERS = 6


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    settings = get_settings()
    write_log(settings.log_level)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    stop = threading.Event()

    def ask_to_stop(*_: Any) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, ask_to_stop)
    signal.signal(signal.SIGINT, ask_to_stop)
    store = LineageStore(create_sessions(settings.ledger_dsn))
    url = settings.marquez_url
    deliverer = Deliverer(MarquezSink(url, connections=WORKERS), store, stop, WORKERS) if url else None
    relay = Relay(
        spool_dir=settings.lineage_spool_dir,
        heartbeat=settings.state_dir / "lineage" / "heartbeat",
        store=store,
        deliverer=deliverer,
        stop=stop,
    )
    logging.info(
        "lineage: relay of %s to the ledger%s", settings.lineage_spool_dir, f" and {url}" if url else ""
    )
    relay.run()
    logging.info("lineage: relay ended")
    logging.shutdown()
    # A request may still be on its way to Marquez; it is sent again after the next start, which is harmless.
    os._exit(0)


if __name__ == "__main__":
    main()
