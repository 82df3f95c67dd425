#!/bin/bash
# A host driver whose remove hangs, and the daemon is stopped and started: neither waits for it, and
# the function is as stuck afterwards as before. The core asks the kernel nothing that would wait.
. ./lib.sh
. ./torture.sh
. ./hang.sh

f=${plain[0]}
load_driver

claim_hangs $f
capture run_as u1 timeout 120 gpubroker run --gpu plain -- true
is $status 0 'a name that means the stuck one too means another one'
isnt "$(state "$(main_pid)")" D 'the core does not hang with it'
asks_nothing_that_waits $f
survives_restart $f unbind
hang remove
settles $f
done_testing
