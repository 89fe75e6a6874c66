"""How a node hears that another one has written."""

from __future__ import annotations

import logging
import os
import selectors
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from lightactors.training.stores.sql.database import Row
from lightactors.training.stores.sql.postgres.failures import first_line
from lightactors.training.stores.sql.postgres.server import Server, load_driver

if TYPE_CHECKING:
    import psycopg

logger = logging.getLogger("lightactors.store")


class Listener:
    """A thread with a connection of its own that hears what other nodes tell."""

    def __init__(self, server: Server, own_name: str, tell: Callable[[], None]) -> None:
        self._server = server
        self._own_name = own_name
        self._tell = tell
        self._stop, self._stopped = os.pipe()
        self._thread = threading.Thread(target=self._run, name=f"{own_name}-listener", daemon=True)
        self._thread.start()

    def close(self) -> None:
        os.close(self._stopped)
        self._thread.join()
        os.close(self._stop)

    def _run(self) -> None:
        driver, pause = load_driver(), 0.05
        while True:
            try:
                with self._server.connect(f"{self._own_name}-l") as connection:
                    connection.execute(f"LISTEN {self._server.channel}".encode())
                    self._tell()  # of what was told while nobody listened
                    pause = 0.05
                    self._listen(connection)
                    return
            except driver.Error as error:
                logger.debug("listening at %s: %s", self._server, first_line(error))
            if self._wait_to_stop(pause):
                return
            pause = min(2 * pause, 1)

    def _listen(self, connection: psycopg.Connection[Row]) -> None:
        """Tell of news until it is time to stop."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._stop, selectors.EVENT_READ)
            selector.register(connection.fileno(), selectors.EVENT_READ)
            while not any(key.fd == self._stop for key, _ in selector.select()):
                told = [notice.payload for notice in connection.notifies(timeout=0)]
                if any(name != self._own_name for name in told):
                    self._tell()

    def _wait_to_stop(self, seconds: float) -> bool:
        with selectors.DefaultSelector() as selector:
            selector.register(self._stop, selectors.EVENT_READ)
            return bool(selector.select(seconds))
