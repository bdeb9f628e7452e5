"""A small threaded web server for WSGI applications on loopback, with or without TLS (cheroot)."""

import logging
import ssl
import threading
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from cheroot import server, wsgi
from cheroot.ssl.builtin import BuiltinSSLAdapter

from local.tls import Certificates

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

log = logging.getLogger(__name__)


class WebServer:
    """Serves `app` on 127.0.0.1 with HTTP/1.1 keep-alive; binds at once, so `port` and `url` are known before start.

    `port=0` takes a free one; a port in use raises OSError. Use it as a context manager, or `start()` and `stop()`.
    """

    def __init__(
        self, app: "WSGIApplication", port: int = 0, certificates: Certificates | None = None, threads: int = 32
    ) -> None:
        self._server = _Server(
            ("127.0.0.1", port), app, numthreads=threads, request_queue_size=512, timeout=120, shutdown_timeout=5
        )
        if certificates:
            self._server.ssl_adapter = _Tls(str(certificates.certificate), str(certificates.key))
            self._server.ConnectionClass = _TlsConnection
        try:
            self._server.prepare()
        except OSError as error:
            raise OSError(f"port {port} cannot be used: is another program listening on it?") from error
        self.port: int = self._server.bind_addr[1]
        self.url = f"{'https' if certificates else 'http'}://localhost:{self.port}"
        self._thread = threading.Thread(target=self._server.serve, name=f"web-{self.port}", daemon=True)

    def start(self) -> Self:
        self._thread.start()
        return self

    def stop(self) -> None:
        """Ends after the requests now running, or after five seconds."""
        self._server.stop()
        if self._thread.is_alive():
            self._thread.join()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()


class _Server(wsgi.Server):
    expiration_interval = 0.1  # how often the loop looks up from its sockets, and sees that it is to stop
    keep_alive_conn_limit = None  # type: ignore[assignment]  # the default of ten would close a busy client's pool

    def error_log(self, msg: str = "", level: int = logging.INFO, traceback: bool = False) -> None:
        log.log(level, "%s", msg, exc_info=traceback)


class _Tls(BuiltinSSLAdapter):
    """Leaves the handshake to the worker thread that first reads: a slow or silent client holds up nobody else."""

    def wrap(self, sock: Any) -> tuple[ssl.SSLSocket, dict[str, str]]:
        wrapped = self.context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        return wrapped, {"wsgi.url_scheme": "https", "HTTPS": "on"}


class _TlsConnection(server.HTTPConnection):
    _greeted = False

    def communicate(self) -> bool:
        if not self._greeted:
            try:
                self.socket.do_handshake()
            except OSError as error:  # the client does not trust us, speaks plain HTTP or went away: its affair
                log.debug("TLS handshake failed: %s", error)
                return False
            self._greeted = True
        return bool(super().communicate())  # type: ignore[no-untyped-call]
