#!/usr/bin/env bash
# Resolve the lock files again from pyproject.toml and the .in files: `make lock`. Commit what changes.
set -euo pipefail
cd "$(dirname "$0")/.."
uv=${UV:-uv}
common=(--quiet --python-version 3.11 --python-platform x86_64-manylinux_2_28 --no-header --no-annotate --no-emit-index-url --no-emit-find-links)
compile() { "$uv" pip compile "${common[@]}" "$@"; }
cpu_links=${UV_FIND_LINKS:-${PIP_FIND_LINKS:-}}
# Every extra but lm-eval, which few need and which brings forty packages.
list='import tomllib; print(*(f"--extra {e}" for e in tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"] if e != "lm-eval"))'
read -ra extras <<<"$(python3 -c "$list")"
house=(pyproject.toml "${extras[@]}" --override requirements/house.override)
UV_FIND_LINKS=$cpu_links compile "${house[@]}" --override requirements/house-cpu.override -o requirements/house-cpu.txt
UV_FIND_LINKS=$cpu_links compile requirements/engine-cpu.in --override requirements/engine-cpu.override -o requirements/engine-cpu.txt
env -u UV_FIND_LINKS -u PIP_FIND_LINKS "$uv" pip compile "${common[@]}" "${house[@]}" -o requirements/house-cuda.txt
env -u UV_FIND_LINKS -u PIP_FIND_LINKS "$uv" pip compile "${common[@]}" requirements/engine-cuda.in -o requirements/engine-cuda.txt
