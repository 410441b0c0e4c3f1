#!/usr/bin/env bash
# Make sure that a Chromium is here: install Debian's or Ubuntu's when root may, else say how. Never skips.
set -euo pipefail
for name in "${CHROMIUM:-}" chromium chromium-browser google-chrome google-chrome-stable; do
  if [ -n "$name" ] && command -v "$name" >/dev/null; then exit 0; fi
done
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "test-browser: installing chromium with apt-get" >&2
  log=$(mktemp)
  if { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium; } >"$log" 2>&1; then
    rm -f "$log"
    exit 0
  fi
  tail -5 "$log" >&2
fi
echo "test-browser: no Chromium is here, and the page must be tested in one" >&2
echo "  remedy: sudo apt-get install chromium, or CHROMIUM=/path/to/chrome make test-browser" >&2
exit 2
