"""Tools that models and callers may call."""

from assistant.tools.output import ToolOutput
from assistant.tools.toolbox import Tool, tool

__all__ = ["Tool", "ToolOutput", "tool"]
