"""The floor as a function app: what the host costs without our logic."""

import azure.functions as func

from benchmarks.hot_path.floor import Floor
from benchmarks.hot_path.protocol import done
from connector.bus import Change
from connector.settings import settings

app = func.FunctionApp()
_floor = Floor(settings())


@app.function_name("Floor")
@app.service_bus_queue_trigger(
    arg_name="message", queue_name="%CHANGES_QUEUE%", connection="ServiceBusConnection", is_sessions_enabled=True
)
def floor(message: func.ServiceBusMessage) -> None:
    change = Change.parse(message.get_body())
    _floor.handle(change)
    done(change)
