"""The names of raw files: what is written is found again, with the numbers that the name tells."""

from pathlib import Path

from tokenhour.bench.recording import raw_files


def test_numbers_are_read_back_from_the_names_of_spools_and_rows() -> None:
    """Of any folder, also one whose own name has hyphens."""
    raw = Path("a-1-2/raw")
    for file in (raw_files.rows_file(raw, 12, 3), raw_files.spool_file(raw, 12, 3)):
        assert raw_files.probe_and_worker(file) == (12, 3)


def test_rows_are_found_by_probe_and_worker_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    """Probe 10 comes after probe 2, and no other file is taken for rows."""
    made = [raw_files.rows_file(tmp_path, probe, worker) for probe, worker in ((0, 0), (2, 9), (2, 10), (10, 0))]
    spool = raw_files.spool_file(tmp_path, 2, 9)
    samples = [tmp_path / raw_files.WORKERS_CPU, tmp_path / raw_files.TELEMETRY]
    for file in (*reversed(made), spool, *samples, raw_files.plan_file(tmp_path, 2), tmp_path / raw_files.CORPUS):
        file.touch()
    assert raw_files.all_rows(tmp_path) == made
    assert raw_files.all_rows(tmp_path, 2) == made[1:3]
    assert raw_files.all_spools(tmp_path) == [spool]
    assert raw_files.all_telemetry(tmp_path) == samples
