"""`tokenhour serving scan`."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from tokenhour.contracts.config.idle_scan import ScanPolicy
from tokenhour.contracts.errors import InputError
from tokenhour.contracts.io.yaml_loader import validate_yaml
from tokenhour.contracts.units import BYTES_PER_MIB, human_bytes, human_seconds
from tokenhour.serving.idle_scan import gpus as scan_gpus
from tokenhour.serving.idle_scan import own_servers
from tokenhour.serving.idle_scan.history import HISTORY_FILE, History
from tokenhour.serving.idle_scan.rules import MEANING, Gpu, IdleFinding, Seen, find, may_stop


@click.command("scan")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@click.option("--results", default=Path("results"), type=click.Path(path_type=Path), show_default=True)
@click.option(
    "--policy", "policy_file", type=click.Path(path_type=Path), help="A scan-policy file; the defaults when absent."
)
@click.option("--stop", is_flag=True, help="Stop what the policy's `stop` names. Without it nothing is touched.")
def scan(as_json: bool, results: Path, policy_file: Path | None, stop: bool) -> None:
    """Find accelerators and servers that cost money and do nothing. Exit 1 when there are, 0 when not.

    What only looks idle now is shown, but counts (and is stopped) only once it has been idle for the policy's time; a
    history in the results folder carries that from one scan to the next, so that it works from cron.

    \b
    Examples:
      tokenhour serving scan
      tokenhour serving scan --json --policy configs/scan-policy.yaml
      */10 * * * * cd /srv/tokenhour && .venv/bin/tokenhour serving scan || mail -s "idle GPUs" ops
    """
    policy = validate_yaml(ScanPolicy, policy_file) if policy_file else ScanPolicy()
    _check(policy, stop=stop)
    now_s, file = time.time(), results / HISTORY_FILE
    history = History.read(file)
    servers = own_servers.servers(results, history, now_s)
    gpus = scan_gpus.gpus(policy, history, now_s)
    holders = [holder for gpu in gpus for holder in gpu.holders]
    found = find(holders, servers, own_servers.recorded(results), policy)
    history.write(file)
    processes = sum(holder.pid is not None for holder in holders)
    stopped = [finding for finding in found if stop and may_stop(finding, policy) and _stop(finding)]
    if as_json:
        print(
            json.dumps(
                {
                    "servers": len(servers),
                    "servers_not_judged": [
                        {"pid": each.pid, "command": each.command, "why": each.unjudged} for each in servers if each.unjudged
                    ],
                    "gpu_processes": processes,
                    "gpus": [_as_json(gpu, policy) for gpu in gpus],
                    "findings": [
                        {**asdict(each), "meaning": MEANING[each.pattern], "stopped": each in stopped} for each in found
                    ],
                },
                indent=2,
            )
        )
    else:
        _print(found, stopped, len(servers), processes, policy)
        _print_unjudged(servers)
        _print_gpus(gpus, policy)
    sys.exit(int(any(each.confirmed and each not in stopped for each in found)))


def _check(policy: ScanPolicy, *, stop: bool) -> None:
    import re

    for pattern in policy.protect:
        try:
            re.compile(pattern)
        except re.error as error:
            raise InputError(
                f"{pattern!r} is no regular expression: {error}", where="protect", remedy="correct it"
            ) from error
    if stop and not policy.stop:
        raise InputError(
            "the policy names nothing that may be stopped", where="--stop", remedy="give --policy FILE with a `stop` list"
        )


def _stop(finding: IdleFinding) -> bool:
    """Send SIGTERM, if it is still the process that was seen and ours to signal; tell whether it was sent."""
    if finding.pid is None or finding.start is None or not own_servers.same_process(finding.pid, finding.start):
        return False
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(finding.pid, signal.SIGTERM)
        return True
    return False


def _print_unjudged(servers: list[Seen]) -> None:
    for each in servers:
        if each.unjudged:
            print(f"cannot be judged  {each.run} ({each.command[:60]}): {each.unjudged}")


def _as_json(gpu: Gpu, policy: ScanPolicy) -> dict[str, Any]:
    holders = [
        {"pid": each.pid, "command": each.command, "memory_bytes": each.memory_bytes}
        for each in gpu.holders
        if each.pid is not None
    ]
    return {**asdict(gpu), "holders": holders, "state": gpu.state(policy)}


def _print_gpus(gpus: list[Gpu], policy: ScanPolicy) -> None:
    """Show every GPU, whoever holds it: one that is paid for and idle, or that cannot be judged, must not vanish."""
    for each in gpus:
        state = each.state(policy)
        if state == "lost":
            print(f"GPU {each.gpu}  does not answer; nvidia-smi may say why")
            continue
        used = f"{human_bytes(each.used_bytes or 0)} of {human_bytes(each.total_bytes or 0)}"
        busy = "utilization not told (MIG?)" if each.busy_share is None else f"utilization {each.busy_share:.0%}"
        since = f" for {human_seconds(each.idle_s)}" if state in {"idle", "unused"} and each.idle_s else ""
        print(f"GPU {each.gpu}  {state}{since}  {each.name}  {each.uuid}  {used}, {busy}; {_who(each, policy)}")


def _who(gpu: Gpu, policy: ScanPolicy) -> str:
    held = (gpu.used_bytes or 0) >= policy.min_memory_mib * BYTES_PER_MIB
    pids = [f"pid {each.pid} ({each.command[:40]})" for each in gpu.holders if each.pid is not None]
    return ", ".join(pids) or (scan_gpus.NOBODY if held else "nobody uses it")


def _print(found: list[IdleFinding], stopped: list[IdleFinding], servers: int, holders: int, policy: ScanPolicy) -> None:
    print(f"{servers} servers and {holders} processes with GPU memory were looked at")
    for each in found:
        state = "stopped" if each in stopped else "waste" if each.confirmed else "looks idle"
        memory = f", {human_bytes(each.memory_bytes)}" if each.memory_bytes else ""
        print(f"{state:<10}  {each.pattern:<19}  {human_seconds(each.idle_s):>12}  {each.what}{memory}")
        print(f"{'':<10}  {MEANING[each.pattern]}; {each.remedy}")
    if not any(each.confirmed for each in found):
        print(f"nothing has been idle for {policy.idle_minutes:g} minutes")
