"""A small app that writes down what the host hands over; tests read it from the file RECORD."""

import json
import logging
import os
import threading
import time
from pathlib import Path

import azure.functions as func

app = func.FunctionApp()
record_file = Path(os.environ["RECORD"])
lock = threading.Lock()


def record(kind, **what):
    with lock, record_file.open("a") as file:
        file.write(json.dumps({"kind": kind, "at": time.monotonic()} | what) + "\n")


def handle(kind, msg):
    """Messages say what is to happen: sleep, wait for a file, fail for a number of deliveries."""
    order = json.loads(msg.get_body())
    seen = {"session": msg.session_id, "n": order.get("n"), "delivery": msg.delivery_count}
    record(f"{kind}-begin", **seen)
    time.sleep(order.get("sleep", 0))
    while "wait" in order and not Path(order["wait"]).exists():
        time.sleep(0.01)
    if order.get("describe"):
        record(
            "described",
            message_id=msg.message_id,
            session=msg.session_id,
            subject=msg.subject,
            correlation_id=msg.correlation_id,
            content_type=msg.content_type,
            reply_to=msg.reply_to,
            sequence_number=msg.sequence_number,
            delivery_count=msg.delivery_count,
            lock_token=msg.lock_token,
            enqueued=msg.enqueued_time_utc.isoformat(),
            naive=msg.enqueued_time_utc.tzinfo is None,
            expires=msg.expires_at_utc.isoformat(),
            locked_until=msg.locked_until,
            properties=msg.application_properties,
        )
    if (msg.delivery_count or 1) <= order.get("fail", 0):
        raise RuntimeError(f"delivery {msg.delivery_count} fails as ordered")
    record(f"{kind}-end", **seen)


@app.service_bus_queue_trigger(
    arg_name="msg", queue_name="%SESSION_QUEUE%", connection="ServiceBusConnection", is_sessions_enabled=True
)
def on_session(msg: func.ServiceBusMessage) -> None:
    handle("session", msg)


@app.service_bus_queue_trigger(arg_name="msg", queue_name="%PLAIN_QUEUE%", connection="ServiceBusConnection")
def on_plain(msg: func.ServiceBusMessage) -> None:
    handle("plain", msg)


@app.timer_trigger(arg_name="tick", schedule="%SCHEDULE%")
def on_timer(tick: func.TimerRequest) -> None:
    record("timer", past_due=tick.past_due, status=tick.schedule_status)


@app.route(route="echo/{id:int}/{rest?}", methods=["GET", "POST"])
def echo(req: func.HttpRequest) -> func.HttpResponse:
    if req.params.get("fail"):
        raise ValueError("asked to fail")
    logging.info("echo %s", req.route_params["id"])
    answer = {
        "method": req.method,
        "params": dict(req.route_params),
        "query": dict(req.params),
        "body": req.get_body().decode(),
        "header": req.headers.get("X-Custom"),
    }
    return func.HttpResponse(json.dumps(answer), status_code=201, mimetype="application/json", headers={"X-Seen": "1"})


@app.route(route="open", auth_level=func.AuthLevel.ANONYMOUS)
async def opened(req: func.HttpRequest) -> str:
    return "welcome"


@app.route(route="echo/literal", methods=["GET"], auth_level=func.AuthLevel.ADMIN)
def admin_only(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse(status_code=204)


@app.route(route="switched/off", auth_level=func.AuthLevel.ANONYMOUS)
def switched_off(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse("on")
