"""`python -m local entra`: one Entra tenant over HTTPS on loopback."""

import argparse
import logging
import sys
from pathlib import Path

from local.entra.app import EntraApp
from local.entra.directory import Directory
from local.entra.identities import PATH, IdentityEndpoint
from local.process import say_ready, stop_event
from local.tls import ensure_certificates
from local.web import WebServer

IDENTITY = "Function app"  # whose managed identity it is


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m local entra", description=__doc__)
    parser.add_argument("--home", type=Path, default=Path(".local"), help="where state is kept (default: .local)")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument(
        "--resource", action="append", default=[], metavar="URL", help="an App ID URI that tokens may be for; repeat it"
    )
    parser.add_argument("--identity-port", type=int, default=0, help="of the managed identities' endpoint")
    parser.add_argument("--token-lifetime", type=int, default=3599, metavar="SECONDS")
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    stop = stop_event()
    directory, certificates = Directory(options.home), ensure_certificates(options.home)
    try:
        server = WebServer(lambda *request: app(*request), options.port, certificates)
    except OSError as error:
        print(f"entra: {error}", file=sys.stderr)
        return 1
    app = EntraApp(directory, server.url, options.resource, token_lifetime=options.token_lifetime)
    # The platform's endpoint has no TLS: it is reached from the app's own machine alone.
    identities = WebServer(IdentityEndpoint(app, directory.named(IDENTITY, managed=True)), options.identity_port)
    with server, identities:
        say_ready(
            {
                "authority": server.url,
                "tenant_id": directory.tenant_id,
                "ca_file": str(certificates.ca_file.resolve()),
                "admin_url": f"{server.url}/admin",
                "identity_endpoint": f"http://127.0.0.1:{identities.port}{PATH}",
            }
        )
        stop.wait()
    return 0
