#!/bin/sh
# `gpubroker serve` without a broker, attacked: requests of every wrong form, slow clients, a thousand at once, pages of
# a browser, wrong tokens; and machines that are started. serve.py has the tests. With a broker: tests/vm/cases/62-serve.t.
# shellcheck source=tests/tap.sh
. "$(dirname "$0")/tap.sh"
command -v python3 >/dev/null || {
	echo "1..0 # SKIP there is no python3"
	exit 0
}
dir=$(mktemp -d) || exit 99
trap 'rm -rf "$dir"' EXIT
mkdir -m 700 "$dir/run"
XDG_RUNTIME_DIR=$dir/run XDG_CONFIG_HOME=$dir/config python3 "$top_srcdir/tests/serve.py" "$top_builddir/client/gpubroker" \
	"$top_srcdir/client/serve/openapi.json" "$top_srcdir/client/examples/serve.py"
