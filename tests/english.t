#!/bin/sh
# The English of comments and of what users and developers read: hardly a sentence begins with a bare "Who",
# "What", "Whom" or "Of". Such a sentence hides its actor: "Who waits stands in a queue" is "A claim that waits
# stands in a queue". HACKING.md has the house style.
#
#	english.t             the test; it shows each such sentence, with its file and line
#	english.t --figures   their number in any checkout: top_srcdir=CHECKOUT tests/english.t --figures
#	english.t --exceptions   today's numbers, as tests/layers.exceptions has them
#
# In a document a question may begin so; in a comment it should be a statement.
# shellcheck disable=SC2317,SC2046,SC2086 # functions are called by name, through tap_ok; names have no spaces

# shellcheck source=tests/tap.sh
. "$(dirname "$0")/tap.sh"
house=$(cd "$(dirname "$0")/house" && pwd) || exit 99
cd "$top_srcdir" || exit 99
top_srcdir=$(pwd)
# shellcheck source=tests/exceptions.sh
. "$house/../exceptions.sh"
dir=$(mktemp -d) || exit 99
trap 'rm -rf "$dir"' EXIT

most_in_a_thousand=2

# Each part is counted for itself: a few thousand comments would hide a bad page.
parts='comments comments_of_tests documents'
# A tarball has no tests/vm.
[ ! -d tests/vm ] || parts="$parts comments_of_tests_vm"

files_of() {
	case $1 in
	comments) find brokerd client policy -name '*.[ch]' ;;
	comments_of_tests) find tests -name '*.[ch]' ! -path 'tests/vm/*' ;;
	comments_of_tests_vm) find tests/vm -name '*.[ch]' ;;
	documents) ls brokerd/*.[1-8] client/*.[1-8] policy/*.[1-8] ./*.md ;;
	esac | sort
}

sentences() {
	awk -f "$house/sentences.awk" "$@"
}

# headless PART: prints those sentences of standard input that begin with such a word.
headless() {
	if [ "$1" = documents ]; then grep -v '?$'; else cat; fi |
		grep -E '^[^ ]*: [("]*(Who|What|Whom|Of)[ ,]' | grep -vE '^[^ ]*: [("]*Of course'
}

read_all() {
	for part in $parts; do
		sentences $(files_of $part) >"$dir/$part" || return 1
		[ "$(wc -l <"$dir/$part")" -ge 100 ] || {
			echo "$part: hardly a sentence"
			return 1
		}
		# grep's status is 1 if there is none.
		headless $part <"$dir/$part" >"$dir/$part.headless" || [ $? -eq 1 ] || return 1
	done
}

figures() {
	for part in $parts; do
		n=$(wc -l <"$dir/$part.headless")
		all=$(wc -l <"$dir/$part")
		echo "$n $all $part" | awk '{
			printf "%d of %d sentences are headless, %.1f in a thousand: %s\n", $1, $2, 1000 * $1 / $2, $3
		}'
	done
}

# few PART: fails if it has more than the limit and the list of exceptions does not have that number.
few() {
	n=$(wc -l <"$dir/$1.headless" | tr -d ' ')
	limit=$(($(wc -l <"$dir/$1") * most_in_a_thousand / 1000))
	counted "english_$1" all "$limit" "$n" && return
	echo "$n, and $limit may be:"
	cat "$dir/$1.headless"
	return 1
}

print_exceptions() {
	for part in $parts; do
		n=$(wc -l <"$dir/$part.headless" | tr -d ' ')
		[ "$n" -le $(($(wc -l <"$dir/$part") * most_in_a_thousand / 1000)) ] || echo "english_$part: all -> $n"
	done
}

case ${1-} in
--figures)
	read_all && figures
	exit
	;;
--exceptions)
	read_all && print_exceptions
	exit
	;;
esac

# ---- The counter itself, on files made here ----

# tells FILE: sentences.awk finds exactly the sentences that standard input has after the line `----`.
tells() {
	cat >"$dir/both"
	sed '/^----$/,$d' "$dir/both" >"$dir/$1"
	sed '1,/^----$/d' "$dir/both" >"$dir/expected"
	(cd "$dir" && sentences "$1") | sed 's/^[^ ]* //' | diff "$dir/expected" -
}

tells_comments() {
	tells a.c <<-'C'
		/* SPDX-License-Identifier: MIT */
		/*
		 * Who waits stands in a queue. What is said, e.g. here, or in https://example.org/a. b
		 * goes on. ref_put() follows; of course.
		 *
		 *	What code.
		 *	Of code.
		 * - Of a list.
		 */
		int a; /* n */
		int b; /* of its driver */ int c; // Whom it serves.
		const char *text = "/* Who is in a text. */", quote = '"'; /* Text: "What for?" */
		/* ---- for claim.c, about a lease ---- */
		/* Each line
		   is joined. */
		int Who(void); /* NULL */
		----
		Who waits stands in a queue.
		What is said, e.g. here, or in `url` b goes on.
		ref_put() follows; of course.
		Of a list.
		of its driver
		Whom it serves.
		Text: "What for?"
		Each line is joined.
	C
}

tells_mdoc() {
	tells a.8 <<-'MDOC'
		.\" Who comments.
		.Dd October 1, 2025
		.Sh WHO READS IT
		.Nm
		lends devices to
		.Xr qemu 1 ,
		and others.
		What is
		.Ar asked
		is done.
		.Bd -literal
		Of what is shown. Nothing.
		.Ed
		.Bl -tag
		.It Fl -what
		Of equals one comes first
		.El
		----
		`code` lends devices to qemu 1, and others.
		What is asked is done.
		Of equals one comes first
	MDOC
}

tells_markdown() {
	tells a.md <<-'MD'
		# What it is
		This is a daemon. **Who** asks
		is answered: `what. Of` code.

		- Of a list
		```
		Who is in code.
		```
		| What | Where |
		| --- | --- |
		| Who asks for it | `a.c` |
		----
		This is a daemon.
		Who asks is answered: `code` code.
		Of a list
		Who asks for it
	MD
}

finds_headless() {
	printf 'a.c:1: %s\n' 'Who waits stands.' 'What for?' '(Of it, one.)' 'Whom it serves.' 'What, then.' 'Of course not.' \
		'Whoever waits.' 'A sentence.' 'of it' >"$dir/some"
	[ "$(headless comments <"$dir/some" | wc -l)" -eq 5 ] && [ "$(headless documents <"$dir/some" | wc -l)" -eq 4 ]
}

# One sentence too many fails, and the test shows it; two in a thousand pass.
can_fail() (
	exceptions=$dir/no-list
	awk 'BEGIN { for (i = 1; i <= 1000; i++) print "a.c:" i ": A sentence." }' >"$dir/made"
	printf 'a.c:7: Who asks?\na.c:8: Of it.\n' >"$dir/made.headless"
	few made || exit 1
	echo 'a.c:9: What is planted.' >>"$dir/made.headless"
	! few made >"$dir/shown" && grep -qx 'a.c:9: What is planted.' "$dir/shown"
)

tap_ok "sentences are told in comments" tells_comments
tap_ok "and in man pages" tells_mdoc
tap_ok "and in Markdown" tells_markdown
tap_ok "a headless one is found" finds_headless
tap_ok "more than $most_in_a_thousand in a thousand fail" can_fail
tap_ok "comments and documents are read" read_all
figures | sed 's/^/# /'
tap_ok "comments name their actors" few comments
tap_ok "comments of tests name their actors" few comments_of_tests
if [ -d tests/vm ]; then
	tap_ok "and those of tests/vm" few comments_of_tests_vm
else
	tap_skip "and those of tests/vm" "not in this tree"
fi
tap_ok "man pages, README, HACKING, SECURITY and NEWS name their actors" few documents
tap_done
