"""`python -m local dynamics`: the shell over HTTPS on loopback, in front of a local Dataverse."""

import argparse
import logging
import os
import sys
from pathlib import Path

from connector.dataverse import ClientSecretTokens, DataverseClient, DataverseError
from dataverse_schema.api import InstallError, WebApi
from local.dynamics.app import DynamicsApp
from local.dynamics.proxy import Proxy
from local.dynamics.sales import install
from local.process import say_ready, stop_event
from local.tls import ensure_certificates
from local.web import WebServer

_THREADS = 64


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m local dynamics",
        description=__doc__,
        epilog="Reads the secret from DYNAMICS_CLIENT_SECRET. The client needs an application user that is an administrator.",
    )
    parser.add_argument("--home", type=Path, default=Path(".local"), help="folder whose tls/ holds the certificates")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--dataverse", metavar="URL", required=True)
    parser.add_argument("--authority", metavar="URL", required=True, help="https://.../<tenant>")
    parser.add_argument("--client-id", required=True)
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    stop = stop_event()
    certificates = ensure_certificates(options.home)
    ca_file = str(certificates.ca_file)
    tokens = ClientSecretTokens(
        "", options.client_id, os.environ["DYNAMICS_CLIENT_SECRET"], options.dataverse, options.authority, ca_file
    )
    try:
        server = WebServer(lambda *request: app(*request), options.port, certificates, _THREADS)
    except OSError as error:
        print(f"dynamics: {error}", file=sys.stderr)
        return 1
    with DataverseClient(options.dataverse, tokens, ca_file=ca_file) as client:
        api = WebApi(client)
        try:
            install(api, {table: _columns(api, table) for table in ("account", "contact", "invoice")})
        except (DataverseError, InstallError) as error:
            print(f"dynamics: {error}", file=sys.stderr)
            return 1
        app = DynamicsApp(api, Proxy(options.dataverse, tokens, ca_file, server.url), server.url)
        with server:
            say_ready({"dynamics_url": server.url})
            stop.wait()
    return 0


def _columns(api: WebApi, table: str) -> set[str]:
    rows = api.rows(f"EntityDefinitions(LogicalName='{table}')/Attributes?$select=LogicalName")
    return {row["LogicalName"] for row in rows}
