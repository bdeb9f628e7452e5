"""Drives Microsoft's own worker library (azure-functions-runtime) in this process, as the host does over gRPC."""

import json
import os
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import azure_functions_runtime as runtime

from local.functions.errors import StartError
from local.functions.values import PROTOS, ParameterBinding, TypedData


class InvocationError(Exception):
    """A function raised: `message` is "Type: text", `stack` the worker's trace."""

    def __init__(self, message: str, stack: str) -> None:
        super().__init__(message)
        self.message, self.stack = message, stack


class Worker:
    """One app in this process. The library's registry is global: one `Worker`, started once, a process."""

    def __init__(self) -> None:
        self.bindings: dict[str, list[dict[str, Any]]] = {}
        self._ids: dict[str, str] = {}

    async def start(self, app: Path) -> None:
        """Imports and indexes `app`; StartError with the reason in one line if the worker refuses it."""
        script = os.environ.get("PYTHON_SCRIPT_FILE_NAME") or "function_app.py"
        if not (app / script).is_file():
            raise StartError(f"there is no {script} in {app}")
        sys.path.insert(0, str(app))
        runtime.start_threadpool_executor()
        init = SimpleNamespace(capabilities={}, function_app_directory=str(app))
        response = await runtime.worker_init_request(_request(worker_init_request=init))
        if response.result.status != PROTOS.StatusResult.Success:
            raise StartError("the app did not load: " + _one_line(response.result.exception.message))
        found = (await runtime.functions_metadata_request(_request())).function_metadata_results or []
        self._ids = {function.name: function.function_id for function in found}
        self.bindings = {function.name: [json.loads(raw) for raw in function.raw_bindings] for function in found}

    async def invoke(
        self, name: str, inputs: Mapping[str, TypedData], metadata: Mapping[str, TypedData]
    ) -> TypedData | None:
        """Runs the function once and returns its return value; InvocationError if it raised."""
        invocation = str(uuid.uuid4())
        runtime.invocation_id_cv.set(invocation)
        request = SimpleNamespace(
            invocation_id=invocation,
            function_id=self._ids[name],
            input_data=[ParameterBinding(name=key, data=value) for key, value in inputs.items()],
            trigger_metadata=metadata,
            trace_context=SimpleNamespace(trace_parent="", trace_state="", attributes={}),
            retry_context=SimpleNamespace(retry_count=0, max_retry_count=0, exception=None),
        )
        response = await runtime.invocation_request(_request(invocation_request=request))
        if response.result.status != PROTOS.StatusResult.Success:
            failure = response.result.exception
            raise InvocationError(failure.message, failure.stack_trace)
        value: TypedData | None = response.return_value
        return value

    def stop(self) -> None:
        runtime.stop_threadpool_executor()


def _request(**payload: Any) -> SimpleNamespace:
    return SimpleNamespace(request=SimpleNamespace(**payload), properties={"host": "127.0.0.1", "protos": PROTOS})


def _one_line(text: str) -> str:
    return " ".join(text.split())
