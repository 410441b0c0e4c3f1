"""What a run that broke off had received becomes rows, each request once."""

import json
from pathlib import Path

import pytest

from tokenhour.bench.recording import raw_files
from tokenhour.bench.recording.frame_log import DUE, END, Spool
from tokenhour.bench.recording.recovery import leftovers


@pytest.mark.parametrize(("recorded", "left"), [("", "abc"), ('{"request_id": "a"}\n', "bc")], ids=["no row", "a row"])
def test_what_stands_in_a_spool_and_in_no_rows_is_recovered_once(tmp_path: Path, recorded: str, left: str) -> None:
    """Of three requests one may be in the rows already, and the last had not ended when its worker was killed."""
    spool = Spool(raw_files.spool_file(tmp_path, 2, 1))
    for serial, name in enumerate("abc"):
        spool.add(DUE, serial, (serial + 2) * 10**9, json.dumps({"id": name, "prompt": 1, "output": 1}).encode())
        if name != "c":
            spool.add(END, serial, 9 * 10**9, b"connection\0gone")
    spool.close()
    raw_files.rows_file(tmp_path, 2, 1).write_text(recorded)
    found = list(leftovers(tmp_path, 10**9))
    assert [row.request_id for row in found] == list(left)
    assert {(row.probe, row.worker) for row in found} == {(2, 1)}
    assert [(row.scheduled_s, row.outcome) for row in found[-2:]] == [(2.0, "connection"), (3.0, "cancelled")]
