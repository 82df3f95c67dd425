# shellcheck shell=sh disable=SC2154 # $dir is the test's
# Sourced by layers.t and english.t, after tap.sh: what is wrong today and known, in tests/layers.exceptions.
# A line is `RULE: WHERE -> WHAT`. A fault without its line fails the test, and so does a line without its
# fault: the list only gets shorter. To write it anew, and see in the diff that it has:
#
#	(tests/layers.t --exceptions; tests/english.t --exceptions) | LC_ALL=C sort >tests/layers.exceptions
#
# An empty list may be removed.

exceptions=${exceptions:-$top_srcdir/tests/layers.exceptions}

# excepted RULE: its lines in the list, without the rule's name.
excepted() {
	[ ! -e "$exceptions" ] || sed -n "s/^$1: //p" "$exceptions" | sort -u
}

# judged RULE: fails where the faults of standard input are not those of the list, and shows the difference.
judged() {
	sort -u >"$dir/found"
	excepted "$1" >"$dir/excepted"
	comm -23 "$dir/found" "$dir/excepted" | sed "s/^/new: $1: /" >"$dir/difference"
	comm -13 "$dir/found" "$dir/excepted" | sed "s/^/mended, take it out of the list: $1: /" >>"$dir/difference"
	cat "$dir/difference"
	[ ! -s "$dir/difference" ]
}

# counted RULE WHERE LIMIT COUNT: a number instead of faults. Above the limit it has to be in the list as it is.
counted() {
	if [ "$4" -gt "$3" ]; then
		echo "$2 -> $4" | judged "$1"
	else
		judged "$1" </dev/null
	fi
}
