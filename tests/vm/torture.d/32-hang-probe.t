#!/bin/bash
# A host driver whose probe hangs, so that a function cannot be given back: stuck as in 30-hang.t,
# and so after a restart. The kernel shows the driver as bound before its probe has said yes, so the
# link alone proves nothing.
. ./lib.sh
. ./torture.sh
. ./hang.sh

n=8
[ -z "${THOROUGH:-}" ] || n=1000
f=${plain[0]}
load_driver

hang probe $f
capture run_as alice timeout 120 gpubroker run --gpu $f -- true
is $status 0 'a claim whose way back will hang is granted'
ok 'its lease is stuck after ten seconds' wait_for 30 is_stuck $f
stuck_as_told $f bind 'hanging'
others_go_on $n $f 'hanging'
isnt "$(state "$(main_pid)")" D 'the core does not hang with it'
survives_restart $f ''
hang probe
settles $f
done_testing
