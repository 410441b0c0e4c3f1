"""`tokenhour serving`: each command's module is imported only when it is used, so that `status` answers at once."""

from __future__ import annotations

import importlib

import click

from tokenhour.contracts.errors import nearest

# Command -> (module, attribute, one line of help).
COMMANDS = {
    "run": ("tokenhour.serving.cli.run", "run", "Serve a checkpoint, run CMD beside it, stop it again."),
    "command": ("tokenhour.serving.cli.run", "show", "Print what would be started, and whether it fits; start nothing."),
    "up": ("tokenhour.serving.cli.up", "up", "Start a server that stays, under a supervisor."),
    "down": ("tokenhour.serving.cli.up", "down", "Let running requests end, then stop a server."),
    "status": ("tokenhour.serving.cli.status", "status", "Which servers are there, and how they are."),
    "logs": ("tokenhour.serving.cli.status", "logs", "Print or follow a server's log."),
    "scan": ("tokenhour.serving.cli.scan", "scan", "Find accelerators and servers that cost money and do nothing."),
    "render": ("tokenhour.serving.cli.render", "render", "Write compose, Kubernetes or gateway files from an experiment."),
}


class Commands(click.Group):
    """A click group that knows its commands' names without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 (click's signature)
        """Return the commands in the order of use."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        """Import the command's module and return it."""
        if cmd_name not in COMMANDS:
            ctx.fail(f"no command {cmd_name!r}; {nearest(cmd_name, COMMANDS)}")
        module, attribute, _ = COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List the commands from the table, so that --help imports nothing."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, _, line) in COMMANDS.items()])


@click.group("serving", cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Serve a checkpoint with vLLM under supervision.

    \b
    Examples:
      tokenhour serving run EXP.yaml -- tokenhour bench run EXP.yaml
      tokenhour serving up EXP.yaml --scheme w8a8
      tokenhour serving status
      tokenhour serving logs EXP.yaml --follow
      tokenhour serving down EXP.yaml
      tokenhour serving scan --json
      tokenhour serving render compose EXP.yaml --out deploy/mine
    """
