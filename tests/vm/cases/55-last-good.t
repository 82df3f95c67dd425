#!/bin/bash
# A policy with a mistake when the broker starts: the last one without is in force, is said to be, and its limits count.
. ./lib.sh

dir=/etc/gpubroker/policy.d
copies=/var/lib/gpubroker/policy
mkdir /tmp/policy.kept
mv $dir/*.policy /tmp/policy.kept/
status() { systemctl show -P StatusText gpubroker; }
# lends NAME: alice gets the card, and it goes back.
lends() {
	capture run_as alice gpubroker run --gpu $gpu -- true
	is "$status" 0 "$1" || diag "$stderr"
	wait_for 20 is_back $gpu bochs-drm
}
lends_nothing() {
	capture run_as alice gpubroker run --gpu $gpu -- true
	is "$status" 69 "$1" || diag "$stderr"
}

# Without a copy: as it was.
systemctl stop gpubroker
rm -rf /var/lib/gpubroker/policy
echo alow >$dir/20-broken.policy
systemctl start gpubroker
lends_nothing 'a first policy with a mistake lends nothing'
rm $dir/20-broken.policy

(umask 077 && echo "allow user alice claim address $gpu limit 1" >$dir/10-mine.policy && chmod 644 $dir/10-mine.policy)
capture systemctl reload gpubroker
is "$status" 0 'systemctl reload takes a good policy'
lends '... which is in force when it returns'
is "$(cat $copies/admin/10-mine.policy)" "$(cat $dir/10-mine.policy)" '... and copied'
is "$(stat -c %A%u $copies $copies/admin $copies/admin/10-mine.policy | tr '\n' ' ')" \
	'drwxr-xr-x0 drwxr-xr-x0 -rw-r--r--0 ' '... for the loader to read, by root alone to write'

# Who may open a file or a directory may lock it, too.
run_as alice python3 - /var/lib/gpubroker $(find /var/lib/gpubroker) >/tmp/locked <<-'END' &
	import fcntl, os, sys, time
	kept = []
	for path in sys.argv[1:]:
	    try:
	        kept.append(os.open(path, os.O_RDONLY))
	        fcntl.flock(kept[-1], fcntl.LOCK_EX | fcntl.LOCK_NB)
	    except OSError:
	        pass
	print("locked", flush=True)
	time.sleep(300)
END
locker=$!
wait_for 20 grep -q locked /tmp/locked
capture timeout 30 gpubroker policy install
is "$status" 0 'a user who locks what there is to lock keeps no start and no reload waiting'
kill $locker
wait $locker 2>/dev/null
rm -f /tmp/locked

echo 'allow user bob claim any thing' >$dir/20-broken.policy
set_mark
capture systemctl reload gpubroker
ok 'systemctl reload fails on a mistake' test "$status" != 0
ok '... with the mistake in the journal' wait_for 10 said_it '20-broken.policy:1:[0-9]+: error: '
is "$(systemctl is-active gpubroker)" active '... and the broker serves on'
lends '... by what was in force'
is "$(ls $copies/admin)" 10-mine.policy '... and the copy is of the good policy alone'

# A lease over the restart: its limit is counted by the file's own name.
run_as alice gpubroker run --gpu $gpu -- sleep 1000 &
holder=$!
wait_for 20 is_leased $gpu
set_mark
systemctl restart gpubroker
capture run_as alice gpubroker run --gpu $gpu -- true
is "$status" 75 'after a restart with a mistake, a lease counts against the limit'
like "$stderr" "1 lease already.* \($dir/10-mine.policy:1\)" '... of the rule by its own name'
kill $holder
wait $holder
wait_for 20 is_back $gpu bochs-drm
lends '... and the last good policy lends'
capture run_as bob gpubroker run --gpu $gpu -- true
is "$status" 77 '... to nobody else'
like "$stderr" "files have 1 mistake, so .* is in force" '... who is told that the files have a mistake'
status_is() { [[ $(status) =~ $1 ]]; }
ok 'systemctl status says so' wait_for 10 status_is 'copy of the policy of .* on disk has mistakes'
ok 'the journal says so' wait_for 10 said_it 'the policy of /var/lib/gpubroker/policy is used'
capture timeout 60 script -qec 'COLUMNS=80 gpubroker list' /dev/null </dev/null
like "$stdout" 'not in force, but a saved copy' 'list says so on a terminal'
capture gpubroker doctor
like "$stdout" 'FAIL +policy.*1 mistake; a copy that was saved before is' 'doctor says so' || diag "$stdout"
capture gpubroker policy reload
is "$status" 65 'policy reload fails still'
like "$stdout" 'the one saved at .* stays in force' '... and says which is in force'

# Each way in which the copy could lie or be half there.
chmod o+w $copies/admin/10-mine.policy
systemctl restart gpubroker
lends_nothing 'a copy that others may write is not used'
chmod o-w $copies/admin/10-mine.policy
chown alice $copies/admin
systemctl restart gpubroker
lends_nothing 'nor one in a directory that is not root'"'"'s'
chown root $copies/admin
echo alow >>$copies/admin/10-mine.policy
systemctl restart gpubroker
lends_nothing 'nor one with a mistake'
echo "allow user alice claim address $gpu" >$dir/10-mine.policy
rm $dir/20-broken.policy
systemctl restart gpubroker
lends 'files without a mistake are in force whatever the copy is'
is "$(cat $copies/admin/10-mine.policy)" "$(cat $dir/10-mine.policy)" '... and are the copy'

# The power was cut in the middle of a copy.
mkdir -p $copies.new/admin/x
cp $copies/admin/10-mine.policy $copies.new/admin/
echo '# more' >>$dir/10-mine.policy
capture gpubroker policy reload
is "$status" 0 'what a cut copy left does not stop the next reload'
like "$stderr" 'cannot be saved in .*/policy' '... which says that it could not be replaced'
rmdir $copies.new/admin/x
capture gpubroker policy reload
is "$status$stderr" 0 '... and once it can be, it is'
is "$(tail -n 1 $copies/admin/10-mine.policy)" '# more' '... with the newest text'
ok '... and nothing of the cut one is left' test ! -e $copies.new

# The same file in both directories is one, and a mask leaves none.
mkdir -p /usr/lib/gpubroker/policy.d
echo 'allow user bob claim any' >/usr/lib/gpubroker/policy.d/30-package.policy
ln -s /dev/null $dir/30-package.policy
gpubroker policy reload >/dev/null
is "$(ls $copies/admin $copies/package)" "$copies/admin:
10-mine.policy

$copies/package:" 'a masked file of the package is not copied'
rm $dir/30-package.policy
gpubroker policy reload >/dev/null
is "$(ls $copies/package)" 30-package.policy '... and is, once it is not masked'
rm /usr/lib/gpubroker/policy.d/30-package.policy

rm -f $dir/*.policy
mv /tmp/policy.kept/*.policy $dir/
gpubroker policy reload >/dev/null
is "$(ls $copies/package)" '' 'a file that is gone leaves no copy'
done_testing
