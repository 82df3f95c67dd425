#!/bin/bash
# Ends the host where that was booted for the first time. See ../dies.
. ./lib.sh

pass 'before it'
[ "$(</tests/boot)" -gt 1 ] || { sync; echo c >/proc/sysrq-trigger; }
pass 'the host was started once more'
done_testing
