"""A turn: what the caller asked becomes rows and a Run that answers, or joins the answer that is there."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Literal

from django.core.exceptions import ImproperlyConfigured
from django.db import IntegrityError, transaction

from assistant.answers import allowances
from assistant.answers.admission import CALLER, MODEL, PROCESS, Bound, admission
from assistant.answers.context import Brief, Turn
from assistant.answers.run import Run, RunLimits, registry
from assistant.answers.tool_loop import answer
from assistant.cluster import leases, processes
from assistant.conf import get_settings
from assistant.errors import Busy, Conflict, ModelMisconfigured, NotFound, TooManyAnswers
from assistant.models import Agent, APIKey, Conversation, Message, MessageQuerySet
from assistant.providers.base import Model
from assistant.providers.registry import get_model
from assistant.tools import toolbox
from wire.api.callers import Caller, caller_name
from wire.api.idempotency import refuse_reuse, rows_of_key

OnDisconnect = Literal["grace", "cancel", "continue"]

TITLE_CHARS = 80
# More turns than fit into any model's window.
MAX_TURNS = 200


@dataclass(frozen=True, slots=True)
class TurnRequest:
    """What a caller asks. `began` is the monotonic moment at which it came, `address` where an anonymous one is.

    `key` is what the caller came with, where it is one.
    """

    caller: Caller
    text: str
    began: float
    address: str = ""
    key: APIKey | None = None
    agent_id: str | None = None
    conversation_id: str | None = None
    idempotency_key: str | None = None
    on_disconnect: OnDisconnect = "grace"

    @property
    def hash(self) -> str:
        """Tell apart what one Idempotency-Key may not be used for."""
        parts = json.dumps([self.text, self.agent_id, self.conversation_id])
        return hashlib.sha256(parts.encode()).hexdigest()


@contextmanager
def beginning(ask: TurnRequest) -> Iterator[Run | Message]:
    """Yield what `begin` returns, and end a Run that has not begun by the end of the block."""
    turn = begin(ask)
    try:
        yield turn
    finally:
        if isinstance(turn, Run):
            registry.abandon(turn)


def begin(ask: TurnRequest) -> Run | Message:
    """Store the turn and return the Run that answers it, not yet begun; or the message that a key stands for.

    Raises `NotFound`, `Conflict`, `KeyReused`, `TokensSpent`, `Busy`, `TooManyAnswers` and `ModelMisconfigured`, and
    then nothing is stored. Whoever calls this begins the Run, or abandons it.
    """
    if known := replayed(ask):
        return joined(known)
    allowances.refuse_spent(ask.caller, ask.key)
    conversation, agent = placed(ask)
    if not conversation._state.adding:
        leases.interrupt(conversation.messages.all())
    model = usable_model(agent)
    with ExitStack() as undo:
        place = undo.enter_context(admission.place(bounds(ask, agent, model)))
        message = message_of(ask, conversation, agent)
        turns = [] if conversation._state.adding else earlier(conversation)
        steps = answer(brief(model, agent, ask, turns))
        limit = limits(ask.on_disconnect)
        run = Run(message=message, steps=steps, limits=limit, began=ask.began, release=place.close)
        # Before its row is: whoever finds that may join the run.
        registry.expect(run)
        undo.callback(registry.remove, run)
        try:
            store(message)
        except IntegrityError:
            return collided(ask)
        undo.pop_all()
        return run


def message_of(ask: TurnRequest, conversation: Conversation, agent: Agent) -> Message:
    return Message(
        conversation=conversation,
        agent=agent,
        model=agent.model_name,
        process=processes.this_process(),
        prompt=ask.text,
        api_key=ask.key,
        caller=caller_name(ask.caller),
        idempotency_key=ask.idempotency_key,
        request_hash=ask.hash,
    )


def bounds(ask: TurnRequest, agent: Agent, model: Model) -> list[Bound]:
    """Return what an answer needs a place under; the caller's own comes first, as only they can make room there."""
    settings = get_settings()
    caller = caller_name(ask.caller) if ask.caller.is_authenticated else f"address:{ask.address}"
    own = [] if model.capacity is None else [Bound(MODEL, model.capacity, Busy, agent.model_name)]
    return [
        Bound(CALLER, settings.CHAT_CONCURRENCY_PER_CALLER, TooManyAnswers, caller),
        Bound(PROCESS, settings.CHAT_CONCURRENCY, Busy),
        *own,
    ]


def replayed(ask: TurnRequest) -> Message | None:
    """Return the message that the caller's Idempotency-Key stands for, if there is one."""
    if ask.idempotency_key is None:
        return None
    keyed = rows_of_key(Message.objects.all(), caller_name(ask.caller), ask.idempotency_key, since="created_at")
    known = keyed.select_related("conversation").first()
    if known is None:
        return None
    refuse_reuse(known, ask.hash)
    return None if free_interrupted(keyed) else known


def free_interrupted(keyed: MessageQuerySet) -> bool:
    """Free the key of an answer that was interrupted: its caller, such as an item of a batch, asks for a new one."""
    leases.interrupt(keyed)
    return keyed.filter(status=Message.Status.INTERRUPTED).update(idempotency_key=None) == 1


def placed(ask: TurnRequest) -> tuple[Conversation, Agent]:
    """Return the conversation (a new one is not saved yet) and the agent that answers in it."""
    conversation = None
    if ask.conversation_id is not None:
        conversation = Conversation.objects.for_caller(ask.caller).filter(pk=ask.conversation_id).first()
        if conversation is None:
            raise NotFound("There is no such conversation.")
    agent_id = ask.agent_id or (conversation.agent_id if conversation else "default")
    agent = Agent.objects.named(agent_id, ask.caller)
    if agent is None:
        raise NotFound("There is no such agent.")
    owner = ask.caller if ask.caller.is_authenticated else None
    return conversation or Conversation(owner=owner, agent=agent, title=ask.text.strip()[:TITLE_CHARS]), agent


def earlier(conversation: Conversation) -> list[Turn]:
    answered = conversation.messages.exclude(text="").order_by("-created_at", "-id")[:MAX_TURNS]
    return [Turn(prompt, text) for prompt, text in reversed(answered.values_list("prompt", "text"))]


def store(message: Message) -> None:
    """Insert the message, and its conversation where that is new; the database decides who is first."""
    with transaction.atomic():
        if message.conversation._state.adding:
            message.conversation.save(force_insert=True)
        message.save(force_insert=True)


def joined(message: Message) -> Run | Message:
    """Return the run that writes the answer in this process, or the message as it is stored by now."""
    if run := registry.get(message.id):
        return run
    if message.status == Message.Status.RUNNING:
        message.refresh_from_db()  # it may have ended since it was read
    return message


def collided(ask: TurnRequest) -> Run | Message:
    """Say what another call, a moment earlier, has of ours: the key or the conversation."""
    if known := replayed(ask):
        return joined(known)
    raise Conflict("An answer is still being written in this conversation.")


def usable_model(agent: Agent) -> Model:
    try:
        return get_model(agent.model_name)
    except ImproperlyConfigured as error:
        raise ModelMisconfigured from error


def brief(model: Model, agent: Agent, ask: TurnRequest, turns: list[Turn]) -> Brief:
    return Brief(
        model=model,
        model_name=agent.model_name,
        prompt=ask.text,
        turns=turns,
        instructions=agent.instructions,
        tools=[tool for tool in toolbox.for_caller(ask.caller) if tool.name in agent.tools],
        temperature=agent.temperature,
        max_output_tokens=agent.max_output_tokens,
        max_input_tokens=agent.max_input_tokens,
        max_tool_rounds=agent.max_tool_rounds,
    )


def limits(on_disconnect: OnDisconnect) -> RunLimits:
    settings = get_settings()
    grace = {"cancel": 0.0, "continue": None, "grace": settings.STREAM_DISCONNECT_GRACE}[on_disconnect]
    return RunLimits(timeout=settings.STREAM_TIMEOUT, grace=grace, chunk_size=settings.STREAM_CHUNK_SIZE)
