"""Delivery of what steps posted: Service Bus queues and topics, webhooks. At least once; failures become system jobs."""

import sqlite3
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests

from local.dataverse.errors import Fault
from local.dataverse.events import QUEUE_LIMIT, WEBHOOK, WEBHOOK_LIMIT, Endpoint, Step, claims
from local.dataverse.values import timestamp

if TYPE_CHECKING:
    from azure.servicebus import ServiceBusClient, ServiceBusSender

    from local.dataverse.environment import Environment
    from local.dataverse.records import Unit

Message = dict[str, Any]
_AT_ONCE = 500
_LONGEST_WAIT = 300.0
_READ = (
    'SELECT id, job, step, endpoint, attempts, message, tbl AS "table", row, body FROM "#outbox" '
    "WHERE due <= ? ORDER BY due, id LIMIT ?"
)


def connection_string(endpoint: Endpoint) -> str:
    """The SDK's connection string for a Service Bus endpoint row."""
    address = endpoint.address or ""
    if "://" not in address:
        address = f"sb://{address}" if "." in address or ":" in address else f"sb://{address}.servicebus.windows.net"
    local = urlsplit(address).hostname in ("localhost", "127.0.0.1", "::1")
    text = f"Endpoint={address};SharedAccessKeyName={endpoint.key_name};SharedAccessKey={endpoint.key}"
    return text + (";UseDevelopmentEmulator=true" if local else "")


class Outbox:
    """One thread that sends what is due. `wake` after a commit; `stop` ends it, leaving the rest for the next start."""

    def __init__(self, env: "Environment") -> None:
        self._env = env
        self._wake = threading.Event()
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._senders: dict[str, tuple[str, ServiceBusClient, ServiceBusSender]] = {}
        self.delivered = 0
        self.failed = 0

    def start(self) -> None:
        self._thread = threading.Thread(target=self._loop, name="outbox", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopping = True
        self._wake.set()
        if self._thread:
            self._thread.join(10)
        self._close_senders()

    def wake(self) -> None:
        self._wake.set()

    def length(self) -> int:
        return int(self._env.storage.reader.execute('SELECT count(*) FROM "#outbox"').fetchone()[0])

    # --- the loop ---

    def _loop(self) -> None:
        while not self._stopping:
            self._wake.clear()
            if self.deliver():
                continue
            row = self._env.storage.reader.execute('SELECT min(due) FROM "#outbox"').fetchone()
            wait = 1.0 if row[0] is None else min(max(row[0] - self._now(), 0.002), 1.0)
            self._wake.wait(wait)

    def _now(self) -> float:
        return self._env.clock().timestamp()

    def deliver(self) -> int:
        """Sends what is due now; answers how many messages left the outbox."""
        reader = self._env.storage.reader
        cursor = reader.execute(_READ, (self._now(), _AT_ONCE))
        names = [column[0] for column in cursor.description]
        messages = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
        if not messages:
            return 0
        steps = {step.id: step for group in self._env.events.steps.values() for step in group}
        groups: dict[str, list[Message]] = {}
        for message in messages:
            groups.setdefault(message["endpoint"], []).append(message)
        done = 0
        for group in groups.values():
            step = next((steps[message["step"]] for message in group if message["step"] in steps), None)
            if step is None:  # the step was deleted: nobody is left to tell
                self._settle(group, steps)
                continue
            done += self._deliver_group(step.endpoint, group, steps)
        return done

    def _deliver_group(self, endpoint: Endpoint, group: list[Message], steps: dict[str, Step]) -> int:
        faults = self._env.faults
        sending = []
        for message in group:
            if faults.strikes("event_lost"):
                continue
            sending.append(message)
            if faults.strikes("event_duplicated"):
                sending.append(message)
        if faults.strikes("event_reordered"):
            faults.shuffle(sending)
        if endpoint.contract == WEBHOOK:
            for message in sending:
                self._webhook(endpoint, message, steps)
            kept = {message["id"] for message in sending}
            self._settle([message for message in group if message["id"] not in kept], steps)
            return len(group)
        sent: list[Message] = []
        error: Exception | None = None
        try:
            self._send(endpoint, sending, sent)
        except Exception as caught:
            error = caught
            self._close_sender(endpoint.id)
        unsent = {message["id"] for message in sending} - {message["id"] for message in sent}
        done = [message for message in group if message["id"] not in unsent]
        if done:
            self._settle(done, steps)
            self.delivered += len(done)
        if unsent:
            self._postpone([message for message in group if message["id"] in unsent], error)
        return len(done)

    # --- Service Bus ---

    def _send(self, endpoint: Endpoint, messages: list[Message], sent: list[Message]) -> None:
        from azure.servicebus import ServiceBusMessage

        sender = self._sender(endpoint)
        batch = sender.create_message_batch()
        waiting: list[Message] = []

        def flush() -> None:
            if waiting:
                sender.send_messages(batch)
                sent.extend(waiting)
                waiting.clear()

        user = self._env.system.user
        for message in messages:
            too_big = len(message["body"]) > QUEUE_LIMIT
            if too_big:
                sent.append(message)
                continue
            properties = claims(self._env.organization_id, user, message["table"], message["message"])
            if '"InputParameters"' not in message["body"]:
                properties["MessageMaxSizeExceeded"] = True
            outgoing = ServiceBusMessage(
                message["body"], content_type="application/json", correlation_id=message["job"],
                application_properties=properties,
            )  # fmt: skip
            try:
                batch.add_message(outgoing)
            except ValueError:
                flush()
                batch = sender.create_message_batch()
                batch.add_message(outgoing)
            waiting.append(message)
        flush()

    def _sender(self, endpoint: Endpoint) -> "ServiceBusSender":
        text = connection_string(endpoint)
        found = self._senders.get(endpoint.id)
        if found is not None and found[0] == text + (endpoint.path or ""):
            return found[2]
        self._close_sender(endpoint.id)
        from azure.servicebus import ServiceBusClient

        client = ServiceBusClient.from_connection_string(text, retry_total=1, retry_backoff_factor=0.2)
        name = endpoint.path or ""
        sender = client.get_topic_sender(name) if endpoint.contract == 5 else client.get_queue_sender(name)
        self._senders[endpoint.id] = (text + name, client, sender)
        return sender

    def _close_sender(self, endpoint: str) -> None:
        found = self._senders.pop(endpoint, None)
        if found is not None:
            try:
                found[2].close()
                found[1].close()
            except Exception:
                pass

    def _close_senders(self) -> None:
        for endpoint in list(self._senders):
            self._close_sender(endpoint)

    # --- webhooks ---

    def call(self, step: Step, table: str, body: str) -> None:
        """A synchronous webhook step: its failure is the caller's failure."""
        status, problem = self._post(step.endpoint, table, step.message, body)
        if status in (502, 503, 504):
            status, problem = self._post(step.endpoint, table, step.message, body)
        if not 200 <= status < 300:
            code = "0x80050202" if status == 0 else "0x80050201"
            raise Fault(400, code, f"The webhook call failed because of {problem or f'http status {status}'}.")

    def _webhook(self, endpoint: Endpoint, message: Message, steps: dict[str, Step]) -> None:
        if len(message["body"]) > WEBHOOK_LIMIT:
            self._finish(message, "0x80050207: the payload of the webhook is too large", failed=True)
            return
        status, problem = self._post(endpoint, message["table"], message["message"], message["body"])
        if status in (502, 503, 504):  # exactly one more attempt, and only for these
            status, problem = self._post(endpoint, message["table"], message["message"], message["body"])
        if 200 <= status < 300:
            self._settle([message], steps)
            self.delivered += 1
        else:
            self._finish(message, problem or f"0x80050201: http status {status}", failed=True)

    def _post(self, endpoint: Endpoint, table: str, message: str, body: str) -> tuple[int, str]:
        host = self._env.organization_id
        headers = {
            "Content-Type": "application/json", "x-request-id": str(uuid.uuid4()), "x-ms-dynamics-organization": host,
            "x-ms-dynamics-entity-name": table, "x-ms-dynamics-request-name": message,
            "x-ms-correlation-request-id": str(uuid.uuid4()),
        }  # fmt: skip
        if '"InputParameters"' not in body:
            headers["x-ms-dynamics-msg-size-exceeded"] = "true"
        parameters: dict[str, str] = {}
        if endpoint.authtype == 4:
            parameters["code"] = endpoint.auth_value or ""
        elif endpoint.authtype in (5, 6):
            from defusedxml.ElementTree import fromstring

            pairs = {s.get("name", ""): s.get("value", "") for s in fromstring(endpoint.auth_value or "<settings/>")}
            (headers if endpoint.authtype == 5 else parameters).update(pairs)
        try:
            answer = requests.post(
                endpoint.url or "", data=body.encode(), headers=headers, params=parameters, timeout=60
            )
        except requests.Timeout:
            return 0, "0x80050202: the request timed out"
        except requests.RequestException as error:
            return 0, f"0x80050205: {type(error).__name__}"
        return answer.status_code, ""

    # --- bookkeeping ---

    def enlist(self, unit: "Unit", job: str, step: Step, table: str, row: str | None) -> None:
        """The system job of a message that is put into the outbox: it waits."""
        user = self._env.system
        unit.connection.execute(
            "INSERT INTO asyncoperation (asyncoperationid, name, operationtype, messagename, primaryentitytype, "
            "regardingobjectid, owningextensionid, statecode, statuscode, retrycount, createdon, modifiedon, ownerid, "
            "\"ownerid:type\", owningbusinessunit, versionnumber) "
            "VALUES (?, ?, 1, ?, ?, ?, ?, 0, 0, 0, ?, ?, ?, 'systemuser', ?, ?)",
            (job, step.name, step.message, table, row, step.id, unit.moment, unit.moment, user.user,
             user.business_unit, self._env.next_version()),
        )  # fmt: skip

    def _settle(self, messages: list[Message], steps: dict[str, Step]) -> None:
        with self._env.storage.writing() as writer:
            for message in messages:
                if message["step"] in steps and not steps[message["step"]].auto_delete:
                    self._note(writer, message, 3, 30, None)
                else:
                    writer.execute("DELETE FROM asyncoperation WHERE asyncoperationid = ?", (message["job"],))
            writer.executemany('DELETE FROM "#outbox" WHERE id = ?', [(message["id"],) for message in messages])

    def _finish(self, message: Message, problem: str, *, failed: bool) -> None:
        with self._env.storage.writing() as writer:
            self._note(writer, message, 3, 31 if failed else 30, problem)
            writer.execute('DELETE FROM "#outbox" WHERE id = ?', (message["id"],))
        self.failed += failed

    def _postpone(self, messages: list[Message], error: Exception | None) -> None:
        """The system jobs wait; each attempt waits longer."""
        problem = f"{type(error).__name__}" if error else "unknown"
        with self._env.storage.writing() as writer:
            for message in messages:
                wait = min(0.25 * 2 ** min(message["attempts"], 20), _LONGEST_WAIT)
                message["attempts"] += 1
                writer.execute(
                    'UPDATE "#outbox" SET attempts = ?, due = ?, error = ? WHERE id = ?',
                    (message["attempts"], self._now() + wait, problem, message["id"]),
                )
                self._note(writer, message, 1, 10, problem)

    def _note(self, writer: sqlite3.Connection, message: Message, state: int, status: int, problem: str | None) -> None:
        """Writes into its system job how a message fares."""
        now = timestamp(self._env.clock())
        writer.execute(
            "UPDATE asyncoperation SET statecode = ?, statuscode = ?, retrycount = ?, friendlymessage = ?, message = ?, "
            "modifiedon = ?, completedon = ?, versionnumber = ? WHERE asyncoperationid = ?",
            (state, status, message["attempts"], problem, problem, now, now if state == 3 else None,
             self._env.next_version(), message["job"]),
        )  # fmt: skip


def wait_until_empty(env: "Environment", timeout: float) -> bool:
    """Whether everything was delivered in time (for tests and the command line)."""
    end = time.monotonic() + timeout
    while env.outbox.length():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True
