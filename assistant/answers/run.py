"""The run that writes one answer, from its first event to its last. Requests only read it."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import Future
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, Literal

from assistant import events
from assistant.answers.coalescing import Coalescer
from assistant.cluster import sharing
from assistant.cluster.leases import Keeper
from assistant.errors import AssistantError, ModelTimeout
from assistant.event_log import EVENTS_AT_ONCE, EventLog
from assistant.events import Failed, Finished, FinishReason, Start, Token, Usage
from assistant.logs import context_for
from assistant.models import Message
from assistant.models.conversations import INTERRUPTED
from assistant.models.pool import STORE_POOL
from assistant.observe import spans
from assistant.providers.base import Completion, Step
from assistant.signals import answer_ended, reader_came, reader_left
from wire.api.json import UNSTORABLE
from wire.errors import SENTENCES

logger = logging.getLogger(__name__)

# More than any model writes in STREAM_TIMEOUT; it bounds the memory that a runaway one takes.
MAX_CHARS = 1_000_000

# A run may be waited for in another thread. One lock for all: it is held for a moment.
endings = Lock()

# A response is read only once the middleware has returned it, and never where its client has gone by then.
FIRST_READER_SECONDS = 10
# A process that reads an answer says so every five seconds.
LAPSE_SECONDS = 15


@dataclass(slots=True)
class RunLimits:
    """Bounds of one answer: seconds in all, seconds that it runs on unread (None: to its end), characters a token."""

    timeout: float
    grace: float | None
    chunk_size: int


@dataclass(slots=True)
class Transcript:
    """The answer so far, in the short form that is stored."""

    parts: list[str] = field(default_factory=list)
    events: list[Any] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage)
    finish_reason: FinishReason = "stop"
    time_to_first_token: float | None = None
    chars: int = 0

    @property
    def text(self) -> str:
        return "".join(self.parts)


class Run:
    """One answer under way: the model's calls, the time limit, the numbered log, the stored row, the last event.

    `steps` are the agent's, and end with a Completion. `began` is the monotonic moment of the request. `release` is
    called, once or more, when the answer has ended. A Run lives on the event loop that begins it; `stop` and `wait` may
    be called from any.
    """

    def __init__(
        self,
        *,
        message: Message,
        steps: AsyncGenerator[Step],
        limits: RunLimits,
        began: float,
        release: Callable[[], None],
    ) -> None:
        self.message = message
        self.log = EventLog()
        self.transcript = Transcript()
        self._steps = steps
        self._limits = limits
        self._began = began
        self._release = release
        self._readers = 0
        self._was_read = False
        self._end_reason: Literal["stop", "interrupt"] | None = None
        self._grace: asyncio.TimerHandle | None = None
        self._remote_readers: dict[str, asyncio.TimerHandle] = {}
        self._failure: Exception | None = None
        self._done: Future[None] | None = None
        self._is_answering, self._has_ended = True, False
        self.has_begun = self.is_abandoned = False

    def begin(self) -> None:
        """Send the first event and start to work. The grace period runs until the first reader comes."""
        self._loop = asyncio.get_running_loop()
        self._coalescer = Coalescer(chunk_size=self._limits.chunk_size, emit=self._emit)
        self.log.append(self._start_event)
        context = context_for(self.message.id)
        self._work = self._loop.create_task(spans.turn(self.message, self._write()), context=context)
        if sharing.is_on():
            self._sharing = self._loop.create_task(sharing.publish(self), context=context)
        self.has_begun = True
        self._start_grace(FIRST_READER_SECONDS)

    def abandon(self) -> None:
        """End an answer that has not begun; `store_abandoned` is to follow."""
        self.is_abandoned = True
        self.log.append(self._start_event)
        self.log.close(events.encode(INTERRUPTED))

    def store_abandoned(self) -> None:
        try:
            self.message.interrupt()
        finally:
            registry.remove(self)
            self._notify_waiters()
            self._release()

    # Readers.

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Count as a reader; when the last one leaves, the grace period starts."""
        # In another thread of a WSGI server it isn't counted: the run's own reader ends it.
        if self.is_abandoned or asyncio.get_running_loop() is not self._loop:
            yield
            return
        self._readers += 1
        self._was_read = True
        reader_came.send_robust(Run)
        self._cancel_grace()
        try:
            yield
        finally:
            self._readers -= 1
            reader_left.send_robust(Run)
            self._start_grace()

    def expect_no_reader(self) -> None:
        """Begin the grace period now if there was no reader: the response that was to read is gone. From any thread."""

        def begin_grace() -> None:
            if not self._was_read:
                self._cancel_grace()
                self._start_grace()

        if self.has_begun and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(begin_grace)

    def attend(self, process: str) -> None:
        """Count a process as a reader until it says that its readers have left, or is silent for a while."""
        if lapse := self._remote_readers.get(process):
            lapse.cancel()
        else:
            self._readers += 1
            self._cancel_grace()
        self._remote_readers[process] = self._loop.call_later(LAPSE_SECONDS, self.leave, process)

    def leave(self, process: str) -> None:
        """Count a process as a reader no longer."""
        if lapse := self._remote_readers.pop(process, None):
            lapse.cancel()
            self._readers -= 1
            self._start_grace()

    async def wait(self) -> Message:
        """Return the message once it is stored."""
        with endings:
            if not self._has_ended and self._done is None:
                self._done = Future()
        if not self._has_ended and self._done:
            await asyncio.shield(asyncio.wrap_future(self._done))
        return self.message

    def stop(self) -> None:
        """End the answer with its text so far. A second call changes nothing."""
        self._end("stop")

    def interrupt(self) -> None:
        """End the answer because the process ends."""
        self._end("interrupt")

    # The answer.

    @property
    def _start_event(self) -> str:
        return events.encode(Start(self.message.id, self.message.conversation_id, self.message.agent_id))

    def _end(self, how: Literal["stop", "interrupt"]) -> None:
        def cancel() -> None:
            if self._end_reason is None and self._is_answering:
                self._end_reason = how
                self._work.cancel()

        self._loop.call_soon_threadsafe(cancel)

    async def _write(self) -> None:
        try:
            ending = await self._run_agent()
            self._coalescer.flush()
            ending = await self._store(ending)
            answer_ended.send_robust(Run, message=self.message, error=self._failure)
        finally:
            registry.remove(self)
            self._release()
            self._cancel_grace()
            self._notify_waiters()
        self.log.close(events.encode(ending))

    async def _run_agent(self) -> Finished | Failed:
        """Take the agent's steps until the last, and return the answer's last event."""
        try:
            await self._follow_steps()
            return self._finished_event(self.transcript.finish_reason)
        except asyncio.CancelledError:
            return self._finished_event("cancelled") if self._end_reason == "stop" else INTERRUPTED
        except AssistantError as error:
            self._failure = error
            logger.warning("message=%s error=%s", self.message.id, type(error).__name__, exc_info=error)
            return Failed(error.message, error.status, error.retryable, error.retry_after)
        except Exception as error:  # models and tools are foreign code
            self._failure = error
            logger.error("message=%s error=%s", self.message.id, type(error).__name__, exc_info=error)
            return Failed(SENTENCES[500], 500)
        finally:
            self._is_answering = False

    async def _follow_steps(self) -> None:
        taken = 0
        try:
            async with asyncio.timeout(self._limits.timeout), aclosing(self._steps) as steps:
                async for step in steps:
                    self._take_step(step)
                    if self.transcript.chars > MAX_CHARS:
                        self.transcript.finish_reason = "length"
                        break
                    taken += 1
                    if taken % EVENTS_AT_ONCE == 0:  # a model that never waits gives way to other tasks
                        await asyncio.sleep(0)
        except TimeoutError as error:
            raise ModelTimeout(f"The answer took longer than {self._limits.timeout:g} s.") from error

    def _take_step(self, step: Step) -> None:
        match step:
            case Token():
                text = step.content
                self.transcript.chars += len(text)
                if self.transcript.time_to_first_token is None:
                    self.transcript.time_to_first_token = self._elapsed()
                self._coalescer.add(text if text.isprintable() else UNSTORABLE.sub("\ufffd", text))
            case Completion(reason, usage):
                self.transcript.finish_reason = "length" if reason == "length" else "stop"
                self.transcript.usage = usage
            case _:
                self._coalescer.flush()
                # As text: PostgreSQL gives back an object with its keys in another order.
                self.transcript.events.append(payload := events.encode(step))
                self.log.append(payload)

    def _emit(self, text: str) -> None:
        self.transcript.parts.append(text)
        self.transcript.events.append(len(text))
        self.log.append(events.encode_token(text))

    def _notify_waiters(self) -> None:
        with endings:
            self._has_ended = True
        if self._done:
            self._done.set_result(None)

    def _finished_event(self, reason: FinishReason) -> Finished:
        return Finished(self.message.id, reason, self.transcript.usage, self._elapsed())

    def _elapsed(self) -> float:
        return round(time.monotonic() - self._began, 6)

    async def _store(self, ending: Finished | Failed) -> Finished | Failed:
        self.message.end(
            ending,
            status=status_of(ending),
            text=self.transcript.text,
            events=self.transcript.events,
            usage=self.transcript.usage,
            time_to_first_token=self.transcript.time_to_first_token,
            processing_time=ending.processing_time if isinstance(ending, Finished) else self._elapsed(),
        )
        try:
            stored = await STORE_POOL.run(self.message.store_ending)
        except Exception:  # a stream must not hang because the database is gone
            logger.exception("message=%s state=not_stored", self.message.id)
            return Failed("The answer could not be stored.", 503, retryable=True)
        logger.info("message=%s state=%s", self.message.id, self.message.status)
        return stored

    # The grace period.

    def _start_grace(self, at_least: float = 0) -> None:
        if self._readers == 0 and self._limits.grace is not None and not self._has_ended:
            self._grace = self._loop.call_later(max(self._limits.grace, at_least), self.stop)

    def _cancel_grace(self) -> None:
        if self._grace is not None:
            self._grace.cancel()
            self._grace = None


def status_of(ending: Finished | Failed) -> Message.Status:
    if isinstance(ending, Failed):
        return Message.Status.INTERRUPTED if ending is INTERRUPTED else Message.Status.FAILED
    return Message.Status.CANCELLED if ending.finish_reason == "cancelled" else Message.Status.COMPLETED


class Registry:
    """The runs of this process."""

    def __init__(self) -> None:
        self._runs: dict[str, Run] = {}
        # A request in another thread may read an answer that is about to begin.
        self._beginning = Lock()
        self.keeper = Keeper(self.running)

    def get(self, message_id: str) -> Run | None:
        return self._runs.get(message_id)

    def running(self) -> list[Run]:
        return [run for run in list(self._runs.values()) if run.has_begun]

    def add(self, run: Run) -> None:
        """Let requests find the run, which is to begin or to be abandoned."""
        self._runs[run.message.id] = run

    def begin(self, run: Run) -> None:
        """Begin the run, unless it has begun or is abandoned."""
        with self._beginning:
            if not run.has_begun and not run.is_abandoned:
                self.add(run)
                run.begin()
        self.keeper.watch()

    def abandon(self, run: Run) -> None:
        """End a run that has not begun; it uses the database."""
        with self._beginning:
            if run.has_begun or run.is_abandoned:
                return
            run.abandon()
        run.store_abandoned()

    def remove(self, run: Run) -> None:
        self._runs.pop(run.message.id, None)

    async def interrupt_all(self) -> None:
        """End every answer, its text so far stored and a last event sent."""
        runs = self.running()
        for run in runs:
            run.interrupt()
        await asyncio.gather(*(run.wait() for run in runs))


registry = Registry()
