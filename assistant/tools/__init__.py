"""Tools that models and callers may call."""

from assistant.tools.toolbox import Tool, ToolOutput, tool

__all__ = ["Tool", "ToolOutput", "tool"]
