"""`python -m local dataverse`: one Dataverse environment over HTTPS on loopback."""

import argparse
import logging
import sys
import threading
from pathlib import Path

from local.dataverse.app import Application
from local.dataverse.auth import TokenCheck, keys_of
from local.dataverse.environment import Environment
from local.dataverse.provisioning import ensure_user
from local.dataverse.values import guid
from local.process import say_ready, stop_event
from local.tls import ensure_certificates
from local.web import WebServer


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m local dataverse", description=__doc__)
    parser.add_argument("--home", type=Path, default=Path(".local/dataverse"), help="where rows and metadata are kept")
    parser.add_argument("--tls-home", type=Path, help="folder whose tls/ holds the certificates (default: --home)")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument(
        "--authority", metavar="URL", required=True, help="the tenant that signs tokens: https://.../<tenant>"
    )
    parser.add_argument(
        "--application",
        action="append",
        default=[],
        metavar="CLIENT_ID",
        help="an application user (administrator) to add",
    )
    parser.add_argument("--empty", action="store_true", help="forget what the home folder holds first")
    parser.add_argument(
        "--threads", type=int, default=64, help="more than 52, so that the limit of concurrent requests can be met"
    )
    parser.add_argument("--cache-mb", type=int, default=256, help="SQLite page cache of the writer")
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("azure").setLevel(logging.WARNING)  # the SDK tells every state of every link
    for name in options.application:
        if guid(name) is None:
            print(f"dataverse: --application {name}: a client id is a GUID", file=sys.stderr)
            return 2
    stop = stop_event()
    options.home.mkdir(parents=True, exist_ok=True)
    path = options.home / "dataverse.db"
    if options.empty:
        for suffix in ("", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
    certificates = ensure_certificates(options.tls_home or options.home)
    try:
        server = WebServer(lambda *request: app(*request), options.port, certificates, options.threads)
    except OSError as error:
        print(f"dataverse: {error}", file=sys.stderr)
        return 1
    env = Environment(path, cache_mb=options.cache_mb)
    for application in options.application:
        ensure_user(env, f"# {application}", application=guid(application))
    check = TokenCheck(keys_of(options.authority, certificates.ca_file), [server.url])
    app = Application(env, check, url=server.url, authorization_uri=f"{options.authority}/oauth2/authorize")
    stopping = threading.Event()
    jobs = threading.Thread(target=env.job_loop, args=(stopping,), name="jobs", daemon=True)
    jobs.start()
    env.outbox.start()
    with server:
        say_ready({
            "dataverse_url": server.url, "admin_url": f"{server.url}/admin", "ca_file": str(certificates.ca_file.resolve()),
            "organization_id": env.organization_id,
        })  # fmt: skip
        stop.wait()
    stopping.set()
    jobs.join(5)
    env.close()
    return 0
