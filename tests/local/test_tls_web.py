import datetime
import socket
import ssl
import stat
import threading

import pytest
import requests
from cryptography import x509

from local.tls import ensure_certificates
from local.web import WebServer


def hello(environ, start_response):
    start_response("200 OK", [("Content-Length", "5")])
    return [b"hello"]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return ensure_certificates(tmp_path_factory.mktemp("home"))


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_strict_verification_accepts_the_certificate(certificates, host):
    context = ssl.create_default_context(cafile=certificates.ca_file)
    assert context.verify_flags & ssl.VERIFY_X509_STRICT
    with (
        WebServer(hello, certificates=certificates) as server,
        socket.create_connection(("127.0.0.1", server.port)) as plain,
        context.wrap_socket(plain, server_hostname=host) as secured,
    ):
        assert secured.version() == "TLSv1.3"


def test_certificates_are_made_once_and_kept_private(certificates):
    home = certificates.ca_file.parent.parent
    before = certificates.ca_file.read_bytes()
    assert ensure_certificates(home) == certificates
    assert certificates.ca_file.read_bytes() == before
    assert stat.S_IMODE(certificates.key.stat().st_mode) == 0o600
    left = x509.load_pem_x509_certificate(before).not_valid_after_utc - datetime.datetime.now(datetime.UTC)
    assert left > datetime.timedelta(days=300)


def test_many_threads_make_one_authority(tmp_path):
    found = []
    threads = [threading.Thread(target=lambda: found.append(ensure_certificates(tmp_path))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    context = ssl.create_default_context(cafile=found[0].ca_file)
    context.load_cert_chain(found[0].certificate, found[0].key)  # key and certificate belong together
    assert len(set(found)) == 1


def test_a_silent_or_distrusting_client_holds_up_nobody(certificates, caplog):
    with WebServer(hello, certificates=certificates, threads=4) as server:
        with socket.create_connection(("127.0.0.1", server.port)):  # says nothing
            with pytest.raises(requests.exceptions.SSLError):
                requests.get(server.url, verify=True, timeout=5)
            assert requests.get(server.url, verify=str(certificates.ca_file), timeout=5).text == "hello"
        with pytest.raises(requests.exceptions.ConnectionError):
            requests.get(server.url.replace("https:", "http:"), timeout=5)
    assert not caplog.records


def test_a_connection_serves_many_requests():
    ports = set()

    def remember(environ, start_response):
        ports.add(environ["REMOTE_PORT"])
        return hello(environ, start_response)

    with WebServer(remember) as server, requests.Session() as session:
        for _ in range(20):
            assert session.post(server.url, data=b"x" * 10_000, timeout=5).text == "hello"
    assert len(ports) == 1


def test_a_port_in_use_is_refused_at_once():
    with WebServer(hello) as server, pytest.raises(OSError, match=f"port {server.port} cannot be used"):
        WebServer(hello, port=server.port)
