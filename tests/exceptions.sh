# shellcheck shell=sh disable=SC2154 # $dir is the test's
# layers.t and english.t source this after tap.sh. tests/layers.exceptions lists today's known faults.
# A line is `RULE: WHERE -> WHAT`. A fault without its line fails the test, and so does a line without its
# fault, so the list only gets shorter. This writes it again, and the diff shows that it is shorter:
#
#	(tests/layers.t --exceptions; tests/english.t --exceptions) | LC_ALL=C sort >tests/layers.exceptions
#
# Without a fault, the list need not exist.

exceptions=${exceptions:-$top_srcdir/tests/layers.exceptions}

# excepted RULE: prints its lines of the list, without the rule's name.
excepted() {
	[ ! -e "$exceptions" ] || sed -n "s/^$1: //p" "$exceptions" | sort -u
}

# judged RULE: fails if the faults of standard input differ from those of the list, and shows the difference.
judged() {
	sort -u >"$dir/found"
	excepted "$1" >"$dir/excepted"
	comm -23 "$dir/found" "$dir/excepted" | sed "s/^/new: $1: /" >"$dir/difference"
	comm -13 "$dir/found" "$dir/excepted" | sed "s/^/mended, take it out of the list: $1: /" >>"$dir/difference"
	cat "$dir/difference"
	[ ! -s "$dir/difference" ]
}

# counted RULE WHERE LIMIT COUNT: checks a number of faults. Above the limit, the list must have that very number.
counted() {
	if [ "$4" -gt "$3" ]; then
		echo "$2 -> $4" | judged "$1"
	else
		judged "$1" </dev/null
	fi
}
