"""Assembles the function app. A missing or malformed setting stops it here, with one line that names it."""

import azure.functions as func

from connector import logs, tracing
from connector.settings import settings
from functions.changes import changes
from functions.events import events
from functions.redemptions import redemptions
from functions.schedules import schedules

logs.install(settings().secrets, as_json=settings().log_format == "json")
if settings().telemetry == "opentelemetry":
    tracing.install()

app = func.FunctionApp(http_auth_level=func.AuthLevel.FUNCTION)
for blueprint in (events, changes, redemptions, schedules):
    app.register_functions(blueprint)
