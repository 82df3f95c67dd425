#!/bin/bash
# A rootless podman leaves a pause process behind, which must not keep a lease. A stand-in for podman does so as it
# does: once, by two forks, as catatonit, with its number in a file.
. ./lib.sh

dir=/tmp/podman
mkdir -p $dir/run
cp /bin/sleep $dir/catatonit
cat >$dir/podman <<'END'
#!/bin/sh
file=$XDG_RUNTIME_DIR/libpod/tmp/pause.pid
[ ! -e "$XDG_RUNTIME_DIR/broken" ] || [ "$1" != unshare ] || exit 1
kill -0 "$(cat "$file" 2>/dev/null)" 2>/dev/null || {
	mkdir -p "${file%/*}"
	setsid sh -c 'exec 2>&- 0<&- 1>&-; "${0%/*}/catatonit" 1000 & echo $! >"$1"' "$0" "$file"
}
echo "podman $*"
END
chmod 755 $dir/podman $dir/catatonit
chown alice $dir/run
pause_pid() { cat $dir/run/libpod/tmp/pause.pid; }
end_pause() { kill "$(pause_pid)"; rm $dir/run/libpod/tmp/pause.pid; }
podman() { capture run_as alice env XDG_RUNTIME_DIR=$dir/run PATH="$dir:$PATH" gpubroker run --gpu 02:00.0 -- "$@"; }

podman podman run image
is "$status $stdout" '0 podman run image' 'podman is executed, and what it prints before is not shown'
ok '... it has left a pause process behind' alive "$(pause_pid)"
is "$(grep Seccomp: /proc/"$(pause_pid)"/status)" $'Seccomp:\t0' '... which is not under the filter'
ok '... so the GPU is back on its driver' wait_for 20 is_back $gpu2 bochs-drm

old=$(pause_pid)
podman $dir/podman ps
is "$stdout $(pause_pid)" "podman ps $old" 'one that runs already is used'
ok '... and the GPU goes back' wait_for 20 is_back $gpu2 bochs-drm

end_pause
podman sh -c 'podman run image'
is "$status" 0 'a script starts podman'
ok '... whose pause process keeps the lease' is_leased $gpu2
end_pause
ok '... until it ends' wait_for 20 is_back $gpu2 bochs-drm

touch $dir/run/broken
podman podman run image
is "$status $stdout" '0 podman run image' 'podman starts no pause process when it is asked to'
like "$stderr" "did not start podman's pause process; if the command starts it, the device stays lent until 'podman system migrate' ends it" \
	'... and run says what follows'
end_pause
ok '... the GPU goes back' wait_for 20 is_back $gpu2 bochs-drm

rm -r $dir
done_testing
