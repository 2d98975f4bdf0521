"""An engine for melt, `command:FILE.yaml`: any program that prints JSON, described by a file."""

from melt_command_engine.engine import CommandEngine

__all__ = ["CommandEngine"]
