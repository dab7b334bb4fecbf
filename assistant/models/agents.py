"""Agents: models with instructions, tools and limits."""

from typing import ClassVar, Self

from django.contrib.auth.models import Group
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q

from assistant.conf import get_settings
from assistant.models.prepared import PreparedQuery
from wire.api.callers import Caller


def one[M: models.Model](rows: models.QuerySet[M]) -> M | None:
    """Return the only row, or None; `first` would sort."""
    return next(iter(rows.order_by()[:1]), None)


class AgentQuerySet(models.QuerySet["Agent"]):
    def for_caller(self, caller: Caller) -> Self:
        """Return the enabled agents that are public or for one of the caller's groups."""
        enabled = self.filter(is_enabled=True)
        if not caller.is_authenticated:
            return enabled.filter(is_public=True)
        return enabled.filter(Q(is_public=True) | Q(groups__user=caller.pk)).distinct()

    def find(self, agent_id: str, caller: Caller) -> "Agent | None":
        """Return one of the caller's agents by its id; public ones are found without a look at groups."""
        return public_agent(agent_id) or (
            one(self.for_caller(caller).filter(pk=agent_id)) if caller.is_authenticated else None
        )


class Agent(models.Model):
    """A model with instructions, tools and limits."""

    id = models.SlugField(primary_key=True, max_length=64, help_text="The agent_id that callers use.")
    name = models.CharField(max_length=100)
    description = models.CharField(max_length=500, blank=True)
    model = models.CharField(
        max_length=200, blank=True, help_text="provider:name, such as openai:gpt-5; empty means ASSISTANT_MODEL."
    )
    instructions = models.TextField(blank=True, help_text="What the model is told before the conversation.")
    tools = models.JSONField(default=list, blank=True, help_text='Names of tools, such as ["search"].')
    temperature = models.FloatField(
        null=True, blank=True, validators=[MinValueValidator(0), MaxValueValidator(2)], help_text="0 to 2."
    )
    max_output_tokens = models.PositiveIntegerField(
        default=1024, validators=[MinValueValidator(1)], help_text="The longest answer, over all rounds of tools."
    )
    max_input_tokens = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(64)],
        help_text="How much of a conversation the model is given; empty means as much as it takes.",
    )
    max_tool_rounds = models.PositiveSmallIntegerField(default=5, help_text="How often it may call tools in an answer.")
    is_public = models.BooleanField(default=True, help_text="For every caller; otherwise for the groups below.")
    groups = models.ManyToManyField(Group, blank=True, related_name="agents")
    is_enabled = models.BooleanField(default=True)

    objects: ClassVar[models.Manager["Agent"]] = AgentQuerySet.as_manager()

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return self.name

    @property
    def model_name(self) -> str:
        return self.model or get_settings().ASSISTANT_MODEL


public_agent = PreparedQuery(Agent, lambda pk: Agent.objects.filter(pk=pk, is_enabled=True, is_public=True))
