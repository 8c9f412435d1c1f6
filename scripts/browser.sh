#!/usr/bin/env bash
# Make ready what the browser tests need: Playwright in .venv, and Chromium: the system's, Playwright's own, or Debian's.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-browser.txt
of_system() { command -v chromium chromium-browser google-chrome-stable google-chrome | head -n 1; }
has_own() { ls "${PLAYWRIGHT_BROWSERS_PATH:-$HOME/.cache/ms-playwright}"/chromium*/ >/dev/null 2>&1; }
[ -n "$(of_system)" ] || has_own && exit 0
echo "browser: fetching Chromium; log in .browser.log"
if timeout 300 .venv/bin/python -m playwright install chromium-headless-shell >.browser.log 2>&1; then exit 0; fi
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    { apt-get update && apt-get install -y --no-install-recommends chromium; } >>.browser.log 2>&1 && exit 0
fi
tail -n 3 .browser.log >&2
echo "browser: no Chromium could be installed; install one (Debian: apt install chromium), and try again" >&2
exit 2
