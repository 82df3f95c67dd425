#!/bin/sh
# Makes configure and what it needs (in build-aux/) from configure.ac and the .am files.
# Needs autoconf, automake, libtool and pkg-config, and nothing else: no autoconf-archive.
set -eu

cd "$(dirname "$0")"

for tool in autoreconf automake libtoolize pkg-config; do
	command -v "$tool" >/dev/null || {
		echo "autogen.sh: $tool not found; it is in Debian's package of" \
			"autoconf, automake, libtool or pkg-config" >&2
		exit 1
	}
done

# aclocal warns where it is missing.
mkdir -p build-aux/m4
exec autoreconf --install --force --warnings=all "$@"
