"""The broker's admin endpoint: HTTP on loopback. As in the official emulator, the management API is at the same port.

GET /health, GET /counters, GET /faults; POST /faults sets the dials; POST /drop breaks all connections.
"""

from __future__ import annotations

import json
import threading
from dataclasses import asdict
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from local.servicebus.atom import manage
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
                self._manage()

        def do_PUT(self) -> None:
            self._manage()

        def do_DELETE(self) -> None:
            self._manage()

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

        def _manage(self) -> None:
            if "api-version=" not in self.path:
                self._answer(HTTPStatus.NOT_FOUND, {"error": f"nothing is at {self.path}"})
                return
            authorization, host = self.headers.get("Authorization") or "", self.headers.get("Host") or "localhost"
            answer = manage(broker, self.command, self.path, authorization, host)
            self._send(answer.status, answer.body.encode(), answer.content_type)

        def _answer(self, status: HTTPStatus, body: Any) -> None:
            self._send(status, json.dumps(body).encode(), "application/json")

        def _send(self, status: HTTPStatus, data: bytes, content_type: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="servicebus-admin", daemon=True).start()
    return server
