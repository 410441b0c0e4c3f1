"""Wheels in pieces: joined and verified, a damaged or missing one refused, GPU code thinned without harm to the wheel."""

import base64
import hashlib
import importlib.util
import io
import json
import os
import shutil
import struct
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

from tests import ROOT

pytestmark = pytest.mark.system

FOLDER = ROOT / "deploy/airgap"
VERSION = f"{sys.version_info[0]}.{sys.version_info[1]}"


def module(name: str) -> ModuleType:
    """Import a script of the air-gap folder, which is no package."""
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec
    assert spec.loader
    found = importlib.util.module_from_spec(spec)
    sys.modules[name] = found
    spec.loader.exec_module(found)
    return found


prune = module("prune")


def run(script: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """Run a script of the air-gap folder as its user does."""
    command = [sys.executable, str(script), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def pip_python() -> str:
    """Return a Python that has pip: the project's own environment has none."""
    for python in (sys.executable, shutil.which("python3", path="/usr/local/bin:/usr/bin"), shutil.which("python3")):
        if python and subprocess.run([python, "-m", "pip", "--version"], capture_output=True, check=False).returncode == 0:
            return python
    pytest.skip("no Python with pip on this machine")


def write_wheel(folder: Path, name: str, files: dict[str, bytes], version: str = "1.0") -> Path:
    """Make a small wheel with a true RECORD."""
    record = ""
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for inside, data in files.items():
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            record += f"{inside},sha256={digest},{len(data)}\n"
            wheel.writestr(inside, data)
        info = f"{name}-{version}.dist-info"
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        record += f"{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n"
        wheel.writestr(f"{info}/RECORD", record)
    return path


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    """Make two wheels, of which one needs the other and one is long enough to be split."""
    folder = tmp_path / "have"
    folder.mkdir()
    noise = b"".join(hashlib.sha256(bytes([k % 256, k // 256])).digest() for k in range(4000))
    write_wheel(folder, "first", {"first.py": b"ANSWER = 41\n", "first.bin": noise})
    write_wheel(folder, "second", {"second.py": b"import first\nANSWER = first.ANSWER + 1\n"})
    return folder


@pytest.fixture
def pieces(wheels: Path, tmp_path: Path) -> Path:
    """Pack the wheels into pieces as they are carried over."""
    out = tmp_path / "out"
    done = run(FOLDER / "pack.py", out, "--wheels", wheels, "--piece-mib", 0.03)
    assert done.returncode == 0, done.stderr
    return out


def test_pieces_are_joined_verified_and_installed_without_an_index(pieces: Path, tmp_path: Path) -> None:
    """On a machine without a network the pieces install, and pip and uv stay offline."""
    found = json.loads((pieces / "MANIFEST.json").read_text())
    assert len(found["pieces"]) > 3
    assert all(piece["bytes"] <= 0.03 * 2**20 for piece in found["pieces"])
    done = run(pieces / "assemble.py", pieces, tmp_path / "dest")
    assert done.returncode == 0, done.stdout + done.stderr
    here = tmp_path / "dest/wheels"
    assert sorted(path.name for path in here.iterdir()) == sorted(found["wheels"])
    site = tmp_path / "site"
    script = f'. {tmp_path}/dest/env.sh && exec "$0" -m pip install --quiet --target {site} second first'
    done = subprocess.run(["sh", "-c", script, pip_python()], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    code = "import second; print(second.ANSWER)"
    said = subprocess.run([sys.executable, "-c", code], cwd=site, capture_output=True, text=True, check=True).stdout
    assert said == "42\n"
    settings = (tmp_path / "dest/env.sh").read_text()
    assert "PIP_NO_INDEX=1" in settings
    assert "UV_OFFLINE=1" in settings


def test_a_missing_piece_is_to_come(pieces: Path, tmp_path: Path) -> None:
    """Assembling names the piece it waits for, leaves nothing half-made, and works once the piece is there."""
    last = max(pieces.glob("wheels.tar.*"))
    away = tmp_path / last.name
    last.rename(away)
    done = run(pieces / "assemble.py", pieces, tmp_path / "dest")
    assert (done.returncode, done.stdout.strip()) == (3, f"to come: {last.name}")
    assert not (tmp_path / "dest/wheels").exists()
    away.rename(last)
    assert run(pieces / "assemble.py", pieces, tmp_path / "dest").returncode == 0


def test_a_damaged_piece_is_refused_by_name(pieces: Path, tmp_path: Path) -> None:
    """One flipped bit is found before anything is unpacked, so that only that piece is carried again."""
    piece = sorted(pieces.glob("wheels.tar.*"))[1]
    data = bytearray(piece.read_bytes())
    data[100] ^= 1
    piece.write_bytes(data)
    done = run(pieces / "assemble.py", pieces, tmp_path / "dest")
    assert done.returncode == 1
    assert f"damaged: {piece.name}" in done.stdout
    assert not (tmp_path / "dest/wheels").exists()


def test_a_wheel_that_is_not_the_manifests_is_refused(pieces: Path, tmp_path: Path) -> None:
    """A wheel whose hash differs from the manifest is not installed."""
    file = pieces / "MANIFEST.json"
    found = json.loads(file.read_text())
    found["wheels"] = dict.fromkeys(found["wheels"], "0" * 64)
    file.write_text(json.dumps(found))
    assert run(pieces / "assemble.py", pieces, tmp_path / "dest").returncode == 1


def test_another_python_is_noted(pieces: Path, tmp_path: Path) -> None:
    """Packing for another Python version is pointed out where the pieces are assembled."""
    file = pieces / "MANIFEST.json"
    file.write_text(file.read_text().replace(f'"python": "{VERSION}"', '"python": "3.99"'))
    done = run(pieces / "assemble.py", pieces, tmp_path / "dest")
    assert "packed for Python 3.99" in done.stderr


@pytest.mark.parametrize(
    ("script", "words", "said"),
    [
        ("pack.py", ["OUT"], "give --lock"),
        ("pack.py", ["OUT", "--lock", "nowhere.txt"], "no such file"),
        ("pack.py", ["OUT", "--wheels", ".", "--piece-mib", "0"], "above 0"),
        ("pack.py", ["OUT", "--wheels", "EMPTY"], "no wheels here"),
        ("assemble.py", ["OUT"], "assemble.py"),
        ("assemble.py", ["EMPTY", "DEST"], "MANIFEST.json"),
    ],
)
def test_bad_input_is_one_message_and_exit_2(tmp_path: Path, script: str, words: list[str], said: str) -> None:
    """Wrong arguments get a message that names the problem, without a traceback."""
    (tmp_path / "EMPTY").mkdir()
    placed = [str(tmp_path / word) if word in {"OUT", "EMPTY", "DEST"} else word for word in words]
    done = run(FOLDER / script, *placed)
    assert done.returncode == 2
    assert said in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_a_lock_is_fetched_to_the_letter(tmp_path: Path) -> None:
    """A CPU build with a local version that pip would prefer is not what a CUDA lock names."""
    have = tmp_path / "have"
    have.mkdir()
    for name, version in (("torch", "2.0"), ("torch", "2.0+cpu"), ("uv", "0.9.1"), ("setuptools", "80.1")):
        write_wheel(have, name, {f"{name}.py": b""}, version)
    lock = tmp_path / "lock.txt"
    lock.write_text("torch==2.0\n")
    settings = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(have), "PATH": "/usr/bin:/bin", "PIP_CONFIG_FILE": "/dev/null"}
    command = [pip_python(), str(FOLDER / "pack.py"), str(tmp_path / "out"), "--lock", str(lock)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=settings)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out/MANIFEST.json").read_text())["wheels"]
    assert [name.split("-py3")[0] for name in sorted(found)] == ["setuptools-80.1", "torch-2.0", "uv-0.9.1"]


BACKEND = """
import zipfile
def build_wheel(folder, config_settings=None, metadata_directory=None):
    name = "only_source-1.0-TAG.whl"
    with zipfile.ZipFile(f"{folder}/{name}", "w") as wheel:
        wheel.writestr("only_source.py", "")
        info = "only_source-1.0.dist-info"
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\\nName: only_source\\nVersion: 1.0\\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: TAG\\n")
        wheel.writestr(f"{info}/RECORD", "only_source.py,,\\n")
    return name
"""


def write_source(folder: Path, tag: str) -> None:
    """Make a package that publishes no wheel, with a build backend of its own; its wheel will have `tag`."""
    files = {
        "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n',
        "backend.py": BACKEND.replace("TAG", tag),
        "PKG-INFO": "Metadata-Version: 2.1\nName: only_source\nVersion: 1.0\n",
    }
    with tarfile.open(folder / "only_source-1.0.tar.gz", "w:gz") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(f"only_source-1.0/{name}")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))


@pytest.mark.parametrize(
    ("compiles", "target", "code"), [(False, "3.12", 0), (False, "same", 0), (True, "same", 0), (True, "3.10", 1)]
)
def test_a_package_that_publishes_its_source_alone_is_built_where_that_can_be_right(
    tmp_path: Path, compiles: bool, target: str, code: int
) -> None:
    """Pure Python builds for any target; compiled code is refused unless the target's Python builds it."""
    python = pip_python()
    ask = "import sys, platform; print('{}.{}'.format(*sys.version_info), platform.machine())"
    version, machine = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=True).stdout.split()
    digits = version.replace(".", "")
    have = tmp_path / "have"
    have.mkdir()
    write_source(have, f"cp{digits}-cp{digits}-linux_{machine}" if compiles else "py3-none-any")
    for name, number in (("first", "1.0"), ("uv", "0.9.1"), ("setuptools", "80.1")):
        write_wheel(have, name, {f"{name}.py": b""}, number)
    lock = tmp_path / "lock.txt"
    lock.write_text("first==1.0\nonly-source==1.0\n")
    settings = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(have), "PATH": "/usr/bin:/bin", "PIP_CONFIG_FILE": "/dev/null"}
    command = [python, str(FOLDER / "pack.py"), str(tmp_path / "out"), "--lock", str(lock), "--machine", machine]
    command += ["--python", version if target == "same" else target]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=settings)
    assert done.returncode == code, done.stderr
    if code:
        assert "run pack.py with the target's Python" in done.stderr
        assert not (tmp_path / "out/MANIFEST.json").exists()
    else:
        found = json.loads((tmp_path / "out/MANIFEST.json").read_text())["wheels"]
        assert sorted(name.split("-")[0] for name in found) == ["first", "only_source", "setuptools", "uv"]


@pytest.mark.parametrize(("device", "expected"), [("cuda", "2.0"), ("cpu", "2.0+cpu")])
def test_setup_installs_a_cuda_lock_to_the_letter(tmp_path: Path, device: str, expected: str) -> None:
    """A local CPU build satisfies == and would be preferred: a GPU machine would compute on its CPU."""
    have, root = tmp_path / "have", tmp_path / "root"
    (root / "requirements").mkdir(parents=True)
    have.mkdir()
    for version in ("2.0", "2.0+cpu"):
        write_wheel(have, "torch", {"torch.py": f"VERSION = {version!r}\n".encode()}, version)
    shutil.copy(ROOT / "requirements/setup.sh", root / "requirements")
    (root / "pyproject.toml").write_text("")
    (root / f"requirements/engine-{device}.txt").write_text(f"torch=={'2.0' if device == 'cuda' else '2.0+cpu'}\n")
    roomy = root / "bin/df"
    roomy.parent.mkdir()
    roomy.write_text("#!/bin/sh\necho head; echo / 1 1 99000000 1 /\n")
    roomy.chmod(0o755)
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("UV_", "PIP_"))} | {
        "PATH": f"{roomy.parent}:{os.environ['PATH']}",
        "DEVICE": device,
        "PYTHON": sys.executable,
        "QUIET_SETUP": "",
        "PIP_NO_INDEX": "1",
        "UV_OFFLINE": "1",
        "UV_FIND_LINKS": str(have),
        "UV": shutil.which("uv") or str(ROOT / ".uv/bin/uv"),
    }
    command = ["bash", str(root / "requirements/setup.sh"), "engine"]
    for _ in range(2):
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        assert done.returncode == 0, done.stderr
    assert "up to date" in done.stderr
    python = str(root / ".venv-engine/bin/python")
    said = subprocess.run([python, "-c", "import torch; print(torch.VERSION)"], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == expected


def test_a_fetch_that_fails_says_so(tmp_path: Path) -> None:
    """A package that cannot be downloaded ends packing with exit 1 instead of an incomplete pack."""
    lock = tmp_path / "lock.txt"
    lock.write_text("a-package-that-nobody-has==0\n")
    environment = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path), "PATH": "/usr/bin:/bin"}
    command = [sys.executable, str(FOLDER / "pack.py"), str(tmp_path / "out"), "--lock", str(lock)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 1
    assert "could not fetch everything" in done.stderr


def entry(kind: int, arch: int, payload: bytes) -> bytes:
    """Write one fatbin entry: a 64-byte header and its code."""
    header = bytearray(64)
    struct.pack_into("<HHIQ", header, 0, kind, 0x101, 64, len(payload))
    struct.pack_into("<I", header, 28, arch)
    return bytes(header) + payload


def library(*fatbins: list[tuple[int, int, bytes]]) -> bytes:
    """Write the smallest ELF with a section of fatbins."""
    body = b""
    for entries in fatbins:
        code = b"".join(entry(*one) for one in entries)
        body += struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(code)) + code
        body += bytes(-len(body) % 8)
    names = b"\0.nv_fatbin\0.shstrtab\0"
    head = bytearray(64)
    head[:5] = b"\x7fELF\x02"
    table = 64 + len(body) + len(names)
    struct.pack_into("<Q", head, 0x28, table)
    struct.pack_into("<HHH", head, 0x3A, 64, 3, 2)
    rows = [(0, 0, 0), (1, 64, len(body)), (12, 64 + len(body), len(names))]
    headers = b"".join(struct.pack("<IIQQQQIIQQ", name, 1, 0, 0, at, size, 0, 0, 1, 0) for name, at, size in rows)
    return bytes(head) + body + names + headers


SASS, PTX = 2, 1
CODE = bytes(range(64))


def kinds(data: bytes | bytearray) -> list[list[tuple[int, int]]]:
    """Return the kind and architecture of each entry that the parser finds."""
    return [[(e.kind, e.arch) for e in entries] for _, _, _, entries in prune.fatbins(data)]


@pytest.mark.parametrize(
    ("want", "kept"),
    [
        ("9.0", [(SASS, 90)]),
        ("8.0", [(SASS, 80)]),
        ("8.9", [(SASS, 86), (PTX, 80)]),
        ("12.0", [(PTX, 90)]),
        ("7.5", [(SASS, 75)]),
    ],
)
def test_what_can_run_there_stays_and_the_rest_goes(want: str, kept: list[tuple[int, int]]) -> None:
    """Pruning keeps the best native code for the GPU, or PTX to compile from."""
    entries = [(SASS, 75), (SASS, 80), (SASS, 86), (SASS, 90), (PTX, 80), (PTX, 90)]
    data = bytearray(library([(kind, arch, CODE) for kind, arch in entries]))
    before = len(data)
    removed = prune.prune(data, prune.capability(want))
    assert len(data) == before
    assert kinds(data) == [kept]
    assert removed == (len(entries) - len(kept)) * (64 + len(CODE))


def test_what_runs_nowhere_there_stays_well_formed() -> None:
    """A fatbin without code for the GPU keeps one entry, so that the library still loads."""
    data = bytearray(library([(SASS, 100, CODE), (SASS, 103, CODE * 2)], [(SASS, 90, CODE)]))
    prune.prune(data, 90)
    assert kinds(data) == [[(SASS, 100)], [(SASS, 90)]]


def test_a_pruned_wheel_has_a_true_record_and_other_wheels_stay_as_they_are(tmp_path: Path) -> None:
    """RECORD is what pip verifies, so the pruned file's hash is written anew; CPU wheels are not copied."""
    fat = library([(SASS, 80, CODE * 50), (SASS, 90, CODE * 50)])
    source = write_wheel(tmp_path, "fat", {"fat/_C.abi3.so": fat, "fat/__init__.py": b""})
    made = prune.wheel(source, tmp_path / "pruned", 90)
    assert made.stat().st_size < source.stat().st_size
    with zipfile.ZipFile(made) as wheel:
        assert wheel.testzip() is None
        data = wheel.read("fat/_C.abi3.so")
        rows = dict(line.split(",", 1) for line in wheel.read("fat-1.0.dist-info/RECORD").decode().splitlines())
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    assert rows["fat/_C.abi3.so"] == f"sha256={digest},{len(fat)}"
    plain = write_wheel(tmp_path, "plain", {"plain.py": b""})
    assert prune.wheel(plain, tmp_path / "pruned", 90) == plain


@pytest.mark.parametrize("text", ["9", "90", "sm_90", "9.0.0", ""])
def test_a_capability_is_major_and_minor(text: str) -> None:
    """Anything but MAJOR.MINOR is rejected, so that 90 is not taken for 9.0."""
    with pytest.raises(ValueError, match="no compute capability"):
        prune.capability(text)
