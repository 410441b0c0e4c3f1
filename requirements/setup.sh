#!/usr/bin/env bash
# Make both environments from their locks: .venv (the house) and .venv-engine (vLLM). Idempotent: a stamp holds the lock's hash.
#   setup.sh [house|engine|all]      DEVICE=cpu|cuda overrides what the machine has
set -euo pipefail
cd "$(dirname "$0")/.."
what=${1:-all}

say() { printf '%s\n' "$*" >&2; }
die() { say "setup: $1"; say "  remedy: $2"; exit 2; }

python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
  || die "$python is missing or older than 3.11" "install Python 3.11 or newer, or name one: make setup PYTHON=python3.12"
"$python" -c 'import sys; sys.exit(sys.platform != "linux")' \
  || die "the engine runs on Linux only" "use Linux (or WSL); the calculator alone: pip install ."

device=${DEVICE:-auto}
if [ "$device" = auto ]; then
  if command -v nvidia-smi >/dev/null && nvidia-smi -L >/dev/null 2>&1; then device=cuda; else device=cpu; fi
fi
case $device in cpu | cuda) ;; *) die "DEVICE=$device is unknown" "use DEVICE=cpu, DEVICE=cuda or leave it out" ;; esac

# What pip was told about local wheels and mirrors is honoured by uv too, which does not read pip's settings.
pip_setting() { "$python" -m pip config get "global.$1" 2>/dev/null || true; }
export UV_FIND_LINKS=${UV_FIND_LINKS:-${PIP_FIND_LINKS:-$(pip_setting find-links)}}
export UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-${UV_INDEX_URL:-${PIP_INDEX_URL:-$(pip_setting index-url)}}}
[ -n "$UV_FIND_LINKS" ] || unset UV_FIND_LINKS
[ -n "$UV_DEFAULT_INDEX" ] || unset UV_DEFAULT_INDEX
# uv knows no variable for pip's "ask no index".
alone=${PIP_NO_INDEX:+--no-index}
export UV_HTTP_TIMEOUT=${UV_HTTP_TIMEOUT:-180}

free_gb=$(df -Pk . | awk 'NR==2 {printf "%d", $4/1e6}')
need_gb=$([ "$device" = cuda ] && echo 20 || echo 6)

find_uv() {
  if [ -n "${UV:-}" ]; then echo "$UV"; return; fi
  if command -v uv >/dev/null; then command -v uv; return; fi
  if [ ! -x .uv/bin/uv ]; then
    say "setup: uv is not here; fetching it with pip into .uv/"
    rm -rf .uv
    "$python" -m venv .uv >&2 || die "cannot make a virtual environment" "install Python's venv module (Debian: python3-venv)"
    .uv/bin/python -m pip install --quiet 'uv>=0.9,<1' >&2 \
      || { rm -rf .uv; die "cannot install uv: no network or no package index" "connect, or point PIP_INDEX_URL / PIP_FIND_LINKS at a mirror, or put uv on PATH"; }
  fi
  echo .uv/bin/uv
}

# The CPU build of torch: from the configured index or local wheels where they have it, else from PyTorch's CPU index,
# which uv knows by name. A plain `torch` would pull gigabytes of CUDA onto a CPU machine.
torch_source() {
  [ "$device" = cpu ] || return 0
  if "$uv" pip install $alone --quiet --dry-run --no-deps --python "$1/bin/python" 'torch==2.13.0+cpu' 2>/dev/null; then return 0; fi
  say "setup: the CPU build of torch comes from PyTorch's CPU index"
  echo "--torch-backend=cpu"
}

# The lock to install from. For CUDA each version to the letter: == 2.13.0 would be met, and preferred, by a 2.13.0+cpu that
# some local folder of wheels holds.
to_the_letter() {
  if [ "$device" = cpu ]; then echo "$2"; return; fi
  sed -E 's/^([A-Za-z0-9_.-]+(\[[^]]*\])?)==([^=])/\1===\3/' "$2" >"$1/.lock.txt"
  echo "$1/.lock.txt"
}

# The packages that every command loads, compiled once: half of a start's time where Python may not write bytecode itself.
compile_light() {
  local site
  site=$("$1/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
  (cd "$site" && "$OLDPWD/$1/bin/python" -m compileall -q -j 0 click jinja2 markdown_it numpy pydantic rich typing_extensions.py yaml) \
    >/dev/null 2>&1 || true
}

make_env() { # folder lock extra-no-deps...
  local env=$1 lock=$2; shift 2
  local want
  want=$( { "$python" -VV; cat "$lock" pyproject.toml; echo "$*"; } | sha256sum | cut -d' ' -f1)
  if [ -x "$env/bin/python" ] && [ "$(cat "$env/.stamp" 2>/dev/null)" = "$want" ]; then
    say "setup: $env is up to date"; return
  fi
  [ "$free_gb" -ge "$need_gb" ] || die "only $free_gb GB free here, $need_gb GB are needed" "free some space or work on another disk"
  say "setup: making $env ($device, $(grep -c == "$lock") packages)"
  [ -x "$env/bin/python" ] || "$uv" venv --quiet --python "$python" "$env"
  rm -f "$env/.stamp"
  local source exact
  source=$(torch_source "$env")
  exact=$(to_the_letter "$env" "$lock")
  "$uv" pip sync $alone ${QUIET_SETUP:+--quiet} --python "$env/bin/python" ${source:+"$source"} "$exact" \
    || die "cannot install $lock" "check the network or the index settings (PIP_INDEX_URL, PIP_FIND_LINKS); run make setup again, it goes on where it stopped"
  for package in "$@"; do
    "$uv" pip install $alone --quiet --python "$env/bin/python" --no-deps "$package" || die "cannot install $package" "see above"
  done
  compile_light "$env"
  echo "$want" >"$env/.stamp"
}

uv=$(find_uv)
case $what in
  house) make_env .venv "requirements/house-$device.txt" --editable=. ;;
  engine) make_env .venv-engine "requirements/engine-$device.txt" ;;
  all)
    make_env .venv "requirements/house-$device.txt" --editable=.
    make_env .venv-engine "requirements/engine-$device.txt"
    ;;
  *) die "unknown environment $what" "house, engine or all" ;;
esac
