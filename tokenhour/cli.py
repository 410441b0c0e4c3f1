"""The front door: `tokenhour <stage> <verb>`, each stage imported only when it is used."""

from __future__ import annotations

import importlib
import os
import sys

import click

from tokenhour.contracts.errors import exit_code_of, interrupted, nearest
from tokenhour.machine.processes import die_with_parent

# Command -> (module, one line of help). A module is imported only when its command is used.
COMMANDS = {
    "run": ("tokenhour.frontdoor.pipeline", "Run a whole experiment: quantize, serve, bench, breakeven, report."),
    "quantize": ("tokenhour.quantize.cli", "Open weights to INT8/INT4 checkpoints, with the quality beside the size."),
    "serving": ("tokenhour.serving.cli", "Serve a checkpoint with vLLM under supervision."),
    "bench": ("tokenhour.bench.cli", "Measure tokens per GPU-hour at the SLO."),
    "breakeven": ("tokenhour.breakeven.cli", "At which volume your own GPU beats which API."),
    "report": ("tokenhour.breakeven.cli.report", "Render a verdict as HTML, Markdown and plots."),
    "compare": ("tokenhour.breakeven.cli.compare", "Set runs side by side; --gate fails where one regressed."),
    "doctor": ("tokenhour.frontdoor.doctor", "What this machine can do, and what is missing for what."),
    "gpu-proof": (
        "tokenhour.frontdoor.gpu_benchmark.command",
        "Measure a model in four precisions on this machine's GPU, end to end.",
    ),
    "roofline": ("tokenhour.frontdoor.roofline_command", "How far from the hardware's measured limits a run was."),
    "trace": ("tokenhour.frontdoor.provenance", "Walk a figure back to raw requests, price rows and file hashes."),
}


class Door(click.Group):
    """A click group that knows its commands' names without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 (click's signature)
        """Return the commands in the order of the flow."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        """Import the command's module and return its `cli`."""
        if cmd_name not in COMMANDS:
            ctx.fail(f"no command {cmd_name!r}; {nearest(cmd_name, COMMANDS)}")
        command: click.Command = importlib.import_module(COMMANDS[cmd_name][0]).cli
        return command

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; Ctrl-C in its midst is 130, as everywhere (click by itself would say "Aborted!", 1)."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            ctx.exit(interrupted())

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List the commands from the table, so that --help imports no stage."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


def say_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    """Print the version; a clone that is run without being installed has none."""
    if not wanted:
        return
    from importlib import metadata

    try:
        print(f"tokenhour, version {metadata.version('tokenhour')}")
    except metadata.PackageNotFoundError:
        print("tokenhour, not installed: run from its folder")
    ctx.exit()


@click.group(cls=Door, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=say_version, help="Say it and exit.")
def cli() -> None:
    """Measure what a GPU-hour of your own buys in tokens, and at which monthly volume it beats which API.

    \b
    Examples:
      tokenhour run configs/experiments/demo.yaml
      tokenhour serving run EXP.yaml -- tokenhour bench run EXP.yaml
      tokenhour breakeven crossings --help
      tokenhour trace results/demo

    Shell completion: eval "$(_TOKENHOUR_COMPLETE=bash_source tokenhour)"
    """


def main() -> None:
    """Run the command line; exit 0 done, 1 a run that is INVALID or failed, 2 bad input."""
    parent = os.environ.pop("TOKENHOUR_PARENT_PID", "")
    if parent.isdigit():
        die_with_parent(int(parent))
    sys.exit(exit_code_of(cli))
