#!/bin/bash
# A host driver whose remove hangs, as drivers do whose card is dead or whose user is busy: the
# claim is answered, the function is said to be stuck, all others can be had as before, and when
# the kernel lets go all is as it was. Issue 4's third point.
. ./lib.sh
. ./torture.sh
. ./hang.sh

n=50
[ -z "${THOROUGH:-}" ] || n=1000
f=${plain[0]}
load_driver

others_go_on $n $f 'quiet'
quiet=$median quiet90=$p90 quiet_max=$max

claim_hangs $f
stuck_as_told $f unbind 'hanging'
others_go_on $n $f 'hanging'
[ "$quiet" = 0 ] || diag "hanging beside quiet: median $((median * 100 / quiet)) %," \
	"p90 $((p90 * 100 / quiet90)) %, max $((max * 100 / quiet_max)) %"
hang remove
settles $f
done_testing
