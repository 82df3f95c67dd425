#!/bin/bash
# Unit tests of what depends on the processor, by the kernel of that processor: where the project is built on another
# machine, `make check` cannot run there. tests/vm/deps says which.
. ./lib.sh

[ -d unit ] || skip_all 'this host has the processor that make check runs on'
# Where record-test finds the records of older versions.
export top_srcdir=/tests/source
for test in unit/*; do
	# Each says the same itself, a line for each of its checks.
	capture timeout -k 5 300 "$test"
	is "$status" 0 "${test#unit/}: $(grep -c '^ok' <<<"$stdout") checks, none of which fails" ||
		diag "$(grep -vE '^ok|^<[0-9]>' <<<"$stdout"; tail -n 20 <<<"$stderr")"
done
done_testing
