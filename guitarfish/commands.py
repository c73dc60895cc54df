"""The verbs of the command line, and the group that imports a verb's module only when it is called."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup


@dataclass(frozen=True)
class Verb:
    """One verb.

    Attributes:
        place: `module:attribute`; the attribute is a function, or a typer app for a verb with verbs of its own.
        help: its line in `guitarfish --help`.
        panel: its heading there.
    """

    place: str
    help: str
    panel: str


_RUN, _ADAPTER, _LOOK = "From data to an adapter", "Adapters in use", "Looking around"
VERBS = {
    "init": Verb("guitarfish.verbs.init:init", "Write a commented run file to start from.", _RUN),
    "check": Verb("guitarfish.verbs.check:check", "Validate a run file and its data, without training.", _RUN),
    "plan": Verb("guitarfish.verbs.plan:plan", "Predict memory, hours and dollars, and show what fits.", _RUN),
    "train": Verb("guitarfish.verbs.train:train", "Train, measure, and publish if the gate is passed.", _RUN),
    "tune": Verb("guitarfish.verbs.tune:tune", "Search LoRA ranks and learning rates, within a budget.", _RUN),
    "submit": Verb("guitarfish.verbs.submit:submit", "Train a run on a Ray cluster or Kubernetes.", _RUN),
    "evaluate": Verb("guitarfish.verbs.evaluate:evaluate", "Measure an adapter or a base model on a hold-out.", _RUN),
    "pairs": Verb("guitarfish.verbs.pairs:pairs", "Make preference pairs from an adapter's answers.", _RUN),
    "adapters": Verb("guitarfish.verbs.adapters:app", "List, show, publish, promote and roll back adapters.", _ADAPTER),
    "merge": Verb("guitarfish.verbs.merge:merge", "Merge an adapter into 16-bit weights; compare logits.", _ADAPTER),
    "serve": Verb("guitarfish.verbs.serve:serve", "Serve a base model and its adapters over HTTP.", _ADAPTER),
    "deploy": Verb("guitarfish.verbs.deploy:deploy", "Serve them on Kubernetes, as a KubeRay RayService.", _ADAPTER),
    "keys": Verb("guitarfish.verbs.keys:app", "Create and revoke API keys, scoped to adapters.", _ADAPTER),
    "ask": Verb("guitarfish.verbs.ask:ask", "Ask a running server, several models side by side.", _ADAPTER),
    "runs": Verb("guitarfish.verbs.runs:app", "List runs; show attempts, cost and scores of one.", _LOOK),
    "report": Verb("guitarfish.verbs.report:report", "Write a run's report as one self-contained HTML file.", _LOOK),
    "cost": Verb("guitarfish.verbs.cost:cost", "Show what runs and serving cost, by label or user.", _LOOK),
    "jobs": Verb("guitarfish.verbs.jobs:app", "Show the status and output of a submitted run; stop it.", _LOOK),
    "schema": Verb("guitarfish.verbs.schema:schema", "Print the run file's JSON Schema, for editors.", _LOOK),
    "doctor": Verb("guitarfish.verbs.doctor:doctor", "Show what this machine has, and what is missing.", _LOOK),
}


def load_command(name: str) -> Any:
    """The command of a verb, its module imported now."""
    module, _, attribute = VERBS[name].place.partition(":")
    found = getattr(importlib.import_module(module), attribute)
    if not isinstance(found, typer.Typer):
        single = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
        single.command(name, context_settings={"help_option_names": ["-h", "--help"]})(found)
        found = single
    command = typer.main.get_command(found)
    command.name = name
    return command


class Verbs(TyperGroup):
    """The group of all verbs; their modules are not imported to list them."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [name for name, verb in VERBS.items() if importlib.util.find_spec(verb.place.partition(":")[0])]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The verb's command; for shell completion, only its name and its line."""
        if cmd_name not in self.list_commands(ctx):
            return None
        if ctx.resilient_parsing and not ctx.args:
            return TyperCommand(cmd_name, help=VERBS[cmd_name].help)
        return load_command(cmd_name)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """As typer does, which looks for similar names in `commands`."""
        self.commands = {name: TyperCommand(name) for name in self.list_commands(ctx)}
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        names = self.list_commands(ctx)
        for panel in (_RUN, _ADAPTER, _LOOK):
            lines = [(name, VERBS[name].help) for name in names if VERBS[name].panel == panel]
            if lines:
                with formatter.section(panel):
                    formatter.write_dl(lines)
