#!/usr/bin/env bash
# Installs the named Debian packages that are missing, with sudo unless this is root. Services that a package would start
# when it is installed are not started. Does nothing, quickly, when all are there.
set -euo pipefail

installed() { dpkg-query -W -f='${Status}' "$1" 2>/dev/null | grep -q 'install ok installed'; }
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

missing=()
for p in "$@"; do
  # Programs that were installed in another way do as well.
  case $p in
    postgresql) command -v initdb >/dev/null && continue; compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null && continue ;;
  esac
  if ! installed "$p"; then missing+=("$p"); fi
done
if [ ${#missing[@]} = 0 ]; then exit 0; fi

if ! command -v apt-get >/dev/null; then
  echo "This needs ${missing[*]}, and apt-get is not here to install it: install it in your system's way." >&2
  exit 1
fi
if [ "$(id -u)" != 0 ] && ! command -v sudo >/dev/null; then
  echo "This needs ${missing[*]}: run 'apt-get install ${missing[*]}' as root first." >&2
  exit 1
fi

# Debian's packages start their services unless this file says not to.
policy=
finish() { if [ -n "$policy" ]; then as_root rm -f "$policy"; fi; }
trap finish EXIT
if [ ! -e /usr/sbin/policy-rc.d ]; then
  policy=/usr/sbin/policy-rc.d
  printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
  as_root chmod 755 "$policy"
fi
echo "installing ${missing[*]}" >&2
as_root apt-get update -qq
as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
