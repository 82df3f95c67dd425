#!/bin/bash
# What is behind the case in which the host dies. See ../dies.
. ./lib.sh

is "$(systemctl is-active gpubroker.socket)" active 'the case behind it is run, on a host that is whole'
done_testing
