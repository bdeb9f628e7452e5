"""The client over real TLS connections: what only sockets can do wrong."""

import socket
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from connector.dataverse import Create, DataverseClient, Get, OutcomeUnknown, Terminal, Transient
from local.tls import Certificates, ensure_certificates


class Tokens:
    def token(self) -> str:
        return "t"

    def renew(self, rejected: str) -> str:
        return rejected


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, certificates: Certificates) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates.certificate, certificates.key)
        self.socket = context.wrap_socket(self.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self.server_port}"
        self.misdeeds: list[str] = []
        self.bodies: list[bytes] = []
        self.peers: set[tuple[str, int]] = set()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        self.answer(200, b'{"UserId":"u"}', "application/json")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.bodies.append(body)
        self.server.peers.add(self.client_address)
        misdeed = self.server.misdeeds.pop(0) if self.server.misdeeds else ""
        if misdeed == "hang up":
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        head = b"--r\r\nContent-Type: application/http\r\n\r\nHTTP/1.1 "
        reply = (
            head
            + (b"204 No Content\r\n\r\n" if b"POST /api" in body else b'200 OK\r\n\r\n{"a":0.10}')
            + b"\r\n--r--\r\n"
        )
        self.answer(200, reply, "multipart/mixed; boundary=r", missing=100 if misdeed == "stop halfway" else 0)
        if misdeed == "close after":
            self.close_connection = True

    def answer(self, status: int, body: bytes, kind: str, missing: int = 0) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body) + missing))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = bool(missing)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return ensure_certificates(tmp_path_factory.mktemp("home"))


@pytest.fixture
def server(certificates: Certificates) -> Iterator[Server]:
    with Server(certificates) as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def connect(server: Server, ca_file: Path | None) -> DataverseClient:
    return DataverseClient(
        server.url, Tokens(), ca_file=str(ca_file) if ca_file else None, deadline=5, sleep=lambda seconds: None
    )


@pytest.mark.parametrize("misdeed", ["hang up", "stop halfway", "close after"])
def test_a_broken_connection_is_repeated_on_a_new_one(server: Server, certificates: Certificates, misdeed: str) -> None:
    with connect(server, certificates.ca_file) as client:
        client.get("accounts(1)")
        server.misdeeds = [misdeed]
        assert client.commit([Create("accounts", {"name": "a"})]) == [None]
        assert str(client.get("accounts(1)")["a"]) == "0.10"
        assert client.counters.retries == (0 if misdeed == "close after" else 1)
    assert len(server.peers) == 2


def test_a_write_whose_answer_never_comes_has_an_unknown_outcome(server: Server, certificates: Certificates) -> None:
    server.misdeeds = ["hang up"] * 1000
    with connect(server, certificates.ca_file) as client:
        with pytest.raises(OutcomeUnknown, match="no answer from Dataverse"):
            client.request("POST", "loy_entries", {"loy_points": 1})
        assert len(server.bodies) == 1
        assert type(_error(client)) is Transient


def _error(client: DataverseClient) -> BaseException | None:
    with pytest.raises(Transient) as caught:
        client.read(Get("accounts(1)"), deadline=0.2)
    return caught.value


def test_one_connection_serves_one_caller(server: Server, certificates: Certificates) -> None:
    with connect(server, certificates.ca_file) as client:
        for n in range(5):
            client.get(f"accounts({n})")
    assert len(server.peers) == 1


def test_a_stranger_s_certificate_is_final(server: Server) -> None:
    with connect(server, None) as client, pytest.raises(Terminal, match="certificate is not trusted"):
        client.get("accounts(1)")
    assert not server.bodies


def test_nobody_there_is_transient_even_for_writes(certificates: Certificates) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    url = f"https://127.0.0.1:{port}"
    with DataverseClient(
        url, Tokens(), ca_file=str(certificates.ca_file), deadline=0.2, sleep=lambda _: None
    ) as client:
        with pytest.raises(Transient, match="no connection to Dataverse") as caught:
            client.commit([Create("accounts", {})])
        assert type(caught.value) is Transient
