"""The broker's admin endpoint: HTTP on loopback, JSON.

GET /health, GET /counters, GET /faults; POST /faults sets the dials; POST /drop breaks all connections.
"""

from __future__ import annotations

import json
import threading
from dataclasses import asdict
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from local.servicebus.broker import Broker
from local.servicebus.faults import dials_from

_MAX_BODY = 65_536


def serve(broker: Broker, port: int) -> ThreadingHTTPServer:
    """Start the endpoint in a thread; its server_port tells where. Stop it with shutdown()."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/health":
                self._answer(HTTPStatus.OK, {"status": "healthy"})
            elif self.path == "/counters":
                self._answer(HTTPStatus.OK, broker.statistics())
            elif self.path == "/faults":
                self._answer(HTTPStatus.OK, asdict(broker.faults()))
            else:
                self._answer(HTTPStatus.NOT_FOUND, {"error": f"nothing is at {self.path}"})

        def do_POST(self) -> None:
            if self.path == "/drop":
                self._answer(HTTPStatus.OK, {"dropped": broker.drop_connections()})
            elif self.path == "/faults":
                self._set_faults()
            else:
                self._answer(HTTPStatus.NOT_FOUND, {"error": f"nothing is at {self.path}"})

        def _set_faults(self) -> None:
            try:
                size = int(self.headers.get("Content-Length") or 0)
                if not 0 <= size <= _MAX_BODY:
                    raise ValueError("the body is too large")
                dials = dials_from(json.loads(self.rfile.read(size) or b"{}"))
            except ValueError as error:
                self._answer(HTTPStatus.BAD_REQUEST, {"error": str(error)})
                return
            broker.set_faults(dials)
            self._answer(HTTPStatus.OK, asdict(dials))

        def _answer(self, status: HTTPStatus, body: Any) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="servicebus-admin", daemon=True).start()
    return server
