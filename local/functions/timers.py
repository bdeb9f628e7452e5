"""Timer triggers: one run at a time of each, its last and next occurrence kept in a file, missed ones made up once."""

import asyncio
import contextlib
import datetime
import json
import logging
from collections.abc import Callable
from pathlib import Path

from local.files import write_private
from local.functions.bindings import TimerTrigger
from local.functions.invocations import Invocations
from local.functions.values import timer_info
from local.functions.worker import InvocationError

log = logging.getLogger(__name__)


def utc_now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


class Timers:
    """`status` is the file that stands in for the storage account; `now` gives aware UTC."""

    def __init__(
        self,
        triggers: list[TimerTrigger],
        invocations: Invocations,
        status: Path,
        now: Callable[[], datetime.datetime] = utc_now,
    ) -> None:
        self._triggers, self._invocations, self._file, self._now = triggers, invocations, status, now
        content = json.loads(status.read_text()) if status.exists() else {}
        self.status: dict[str, dict[str, str]] = {t.name: content[t.name] for t in triggers if t.name in content}
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._keep(trigger)) for trigger in self._triggers if not trigger.disabled]

    def stop(self) -> None:
        """Starts no more runs; one that is going on goes on."""
        for task in self._tasks:
            task.cancel()

    async def run_now(self, trigger: TimerTrigger, past_due: bool = False) -> None:
        """One run outside or inside the schedule; a failure is logged and counted."""
        now = self._now()
        last = self.status.get(trigger.name, {}).get("last")
        info = timer_info(past_due, datetime.datetime.fromisoformat(last) if last else now, trigger.schedule.after(now))
        with contextlib.suppress(InvocationError):  # the next occurrence tries again: a timer has no retry of its own
            await self._invocations.run(trigger.name, {trigger.argument: info})

    async def _keep(self, trigger: TimerTrigger) -> None:
        due_text = self.status.get(trigger.name, {}).get("next")
        due = datetime.datetime.fromisoformat(due_text) if due_text else trigger.schedule.after(self._now())
        missed = due <= self._now()
        if missed or trigger.run_on_startup:
            await self._occur(trigger, missed)
            due = trigger.schedule.after(self._now())
        while True:
            self._remember(trigger.name, next=due)
            while (left := (due - self._now()).total_seconds()) > 0:
                await asyncio.sleep(min(left, 60))  # in steps: the wall clock may be set
            await self._occur(trigger, past_due=False)
            due = trigger.schedule.after(max(due, self._now()))

    async def _occur(self, trigger: TimerTrigger, past_due: bool) -> None:
        began = self._now()
        await asyncio.shield(self.run_now(trigger, past_due))
        self._remember(trigger.name, last=began)

    def _remember(self, name: str, **times: datetime.datetime) -> None:
        status = self.status.setdefault(name, {})
        status |= {key: value.isoformat() for key, value in times.items()}
        status["updated"] = self._now().isoformat()
        write_private(self._file, json.dumps(self.status, indent=1).encode())
