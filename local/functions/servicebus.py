"""Service Bus triggers as the real host runs them.

A queue: up to maxConcurrentCalls messages at once. A session queue: up to maxConcurrentSessions sessions at once, one
message at a time in each; a session is left when nothing came for sessionIdleTimeout. Success completes the message, an
exception abandons it, locks are renewed up to maxAutoLockRenewalDuration. A lost connection is opened again.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable

from local.functions.amqp import Amqp
from local.functions.bindings import QueueTrigger
from local.functions.connection_string import ServiceBusAddress
from local.functions.invocations import Invocations
from local.functions.links import AmqpError, Delivery, ReceiverLink
from local.functions.messages import Reader, Received
from local.functions.options import HostOptions
from local.functions.worker import InvocationError

log = logging.getLogger(__name__)

_ACCEPT_WAIT = 60.0
_BACK_OFF = (0.1, 5.0)  # first and longest wait before the connection is tried again
_REFUSED_WAIT = 2.0  # after a link was refused for a reason that waiting may cure


class Namespace:
    """All triggers on one connection: `start`, then `drain` and `close`."""

    def __init__(
        self, address: ServiceBusAddress, triggers: list[QueueTrigger], invocations: Invocations, options: HostOptions
    ) -> None:
        self._address, self._triggers = address, triggers
        self._invocations, self._options = invocations, options
        self._reader = Reader()
        self._amqp: Amqp | None = None
        self._connected = asyncio.Condition()
        self._stopping = False
        self._idle: set[ReceiverLink] = set()  # session links that nothing runs on
        self._queues: set[ReceiverLink] = set()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._keep_connected())]
        for trigger in self._triggers:
            if trigger.sessions:
                slots = range(self._options.max_concurrent_sessions)
                self._tasks += [asyncio.create_task(self._forever(trigger, self._one_session)) for _ in slots]
            else:
                self._tasks.append(asyncio.create_task(self._forever(trigger, self._queue)))

    async def drain(self, grace: float) -> None:
        """Takes no more messages and waits for the running functions, for `grace` seconds at most."""
        self._stopping = True
        for link in list(self._idle):
            link.close()
        for link in self._queues:
            link.messages.put_nowait(None)  # the link stays for the settlement of what runs
        connecting, *working = self._tasks
        connecting.cancel()
        if working and self.connected:
            await asyncio.wait(working, timeout=grace)

    async def close(self) -> None:
        """Ends the connection; what was not settled goes back to its queue."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._amqp:
            self._amqp.close()

    @property
    def connected(self) -> bool:
        return self._amqp is not None and not self._amqp.closed.done()

    async def _keep_connected(self) -> None:
        wait, said = _BACK_OFF[0], ""
        while True:
            try:
                queues = sorted({trigger.queue for trigger in self._triggers})
                amqp = await Amqp.connect(self._address, queues, f"functions-host-{uuid.uuid4()}")
            except (OSError, TimeoutError, AmqpError) as error:
                if said != str(error):
                    log.warning("cannot reach Service Bus at %s: %s", self._address, error)
                said = str(error)
                await asyncio.sleep(wait)
                wait = min(wait * 2, _BACK_OFF[1])
                continue
            log.info("connected to Service Bus at %s", self._address)
            wait, said = _BACK_OFF[0], ""
            async with self._connected:
                self._amqp = amqp
                self._connected.notify_all()
            await amqp.closed
            if not self._stopping:
                log.warning("the connection to Service Bus was lost")

    async def _forever(self, trigger: QueueTrigger, once: Callable[[Amqp, QueueTrigger], Awaitable[None]]) -> None:
        while not self._stopping:
            if not self.connected:
                async with self._connected:
                    await self._connected.wait_for(lambda: self.connected)
            amqp = self._amqp
            assert amqp is not None
            try:
                await once(amqp, trigger)
            except (AmqpError, TimeoutError) as error:
                if self._stopping or amqp.closed.done():
                    continue
                self._count(trigger, "links_refused")
                log.warning("function %s: queue %s: %s", trigger.name, trigger.queue, error)
                await asyncio.sleep(_REFUSED_WAIT)

    # a session queue

    async def _one_session(self, amqp: Amqp, trigger: QueueTrigger) -> None:
        """Accepts one session, works it off, leaves it."""
        link = amqp.next_session(trigger.queue, _ACCEPT_WAIT)
        self._idle.add(link)
        try:
            try:
                await link.opened
            except AmqpError as error:
                if error.condition in ("com.microsoft:timeout", "link-closed"):
                    return  # no session had a message in all that time
                raise
            self._count(trigger, "sessions_accepted")
            renewer = _Renewer(
                link.locked_until,
                self._options.max_auto_lock_renewal,
                lambda: amqp.renew_session(trigger.queue, link),
            )
            try:
                while not self._stopping:
                    link.flow(1)
                    async with asyncio.timeout(self._options.session_idle_timeout):
                        delivery = await link.messages.get()
                    if delivery is None:
                        break
                    self._idle.discard(link)
                    await self._call(trigger, delivery, self._reader.read(delivery.raw, trigger.binary))
                    self._idle.add(link)
            except TimeoutError:
                pass  # nothing more in this session for now
            finally:
                renewer.stop()
        finally:
            self._idle.discard(link)
            link.close()

    # a plain queue

    async def _queue(self, amqp: Amqp, trigger: QueueTrigger) -> None:
        """Receives until the link ends."""
        link = amqp.receiver(trigger.queue)
        self._queues.add(link)
        running: set[asyncio.Task[None]] = set()
        try:
            await link.opened
            link.flow(self._options.max_concurrent_calls)
            while delivery := await link.messages.get():
                task = asyncio.create_task(self._one_message(amqp, trigger, link, delivery))
                running.add(task)
                task.add_done_callback(running.discard)
            if not self._stopping:
                raise await link.closed
        finally:
            self._queues.discard(link)
            if running:
                await asyncio.wait(running)
            link.close()

    async def _one_message(self, amqp: Amqp, trigger: QueueTrigger, link: ReceiverLink, delivery: Delivery) -> None:
        renewer = None
        message = self._reader.read(delivery.raw, trigger.binary)
        token = message.lock_token
        if token and message.locked_until:
            renewer = _Renewer(
                message.locked_until,
                self._options.max_auto_lock_renewal,
                lambda: amqp.renew_message(trigger.queue, link, token),
            )
        try:
            await self._call(trigger, delivery, message)
        finally:
            if renewer:
                renewer.stop()
            link.flow(1)

    # both

    async def _call(self, trigger: QueueTrigger, delivery: Delivery, message: Received) -> None:
        try:
            await self._invocations.run(trigger.name, {trigger.argument: message.body}, message.metadata)
        except InvocationError:
            await self._settle(trigger, "messages_abandoned", delivery.abandon)
        else:
            await self._settle(trigger, "messages_completed", delivery.complete)

    async def _settle(self, trigger: QueueTrigger, what: str, action: Callable[[], Awaitable[None]]) -> None:
        try:
            await action()
            self._count(trigger, what)
        except (AmqpError, TimeoutError) as error:
            self._count(trigger, "settlements_lost")
            log.warning("function %s: the message could not be settled and comes again: %s", trigger.name, error)

    def _count(self, trigger: QueueTrigger, what: str) -> None:
        self._invocations.figures[trigger.name].events[what] += 1


class _Renewer:
    """Renews a lock when half of it is over, for at most `limit` seconds; costs one timer while nothing is due."""

    def __init__(self, until: float, limit: float, renew: Callable[[], Awaitable[float]]) -> None:
        self._renew, self._ends = renew, time.time() + limit
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._plan(until)

    def stop(self) -> None:
        if self._timer:
            self._timer.cancel()
        if self._task:
            self._task.cancel()

    def _plan(self, until: float) -> None:
        now = time.time()
        due = now + max(0.05, (until - now) / 2)
        if due < self._ends:
            self._timer = self._loop.call_later(due - now, self._start)

    def _start(self) -> None:
        self._task = self._loop.create_task(self._again())

    async def _again(self) -> None:
        try:
            self._plan(await self._renew())
        except (AmqpError, TimeoutError) as error:
            log.warning("a lock was not renewed: %s", error)
