# shellcheck shell=bash
# What 13-mdev and 14-vendor share: the core killed at each system call while a part of a device is claimed, while its
# lease ends and while a start takes it up. Sourced after breaker.sh, by who says how it is: clean, lent, how_it_is.
# shellcheck disable=SC2154,SC2034

# Seconds for each sweep of the short form.
: "${SWEEP_SECONDS:=25}"

# claim_one: sets group and granted, beside what claim does.
claim_one() {
	claim
	granted='' group=''
	[[ $answer != granted\ * ]] || { granted=1 group=${answer#granted * } group=${group%% *}; }
}
# killed: what came of the plan. Sets outcome to passed, or to nothing where the core was killed, and then
# starts it again.
killed() {
	ask done
	point=$reply outcome=
	case $reply in
	killed\ *)
		[[ $reply == *' orphans 0' ]] || { orphans=$((orphans + 1)); diag "$reply"; }
		start
		[ -n "$alive" ] || outcome="the daemon does not start: $reply" ;;
	passed\ *) outcome=passed total=${reply#passed } ;;
	*) outcome="neither killed nor passed: $reply" ;;
	esac
}
# after: what is left is one of the two, and it goes when its claimer lets go.
after() {
	if [ -n "$granted" ]; then
		await 20 lent || outcome='granted, and not lent'
		release
		n_lent=$((n_lent + 1))
	fi
	await 20 clean || outcome="${outcome:+$outcome; }not clean"
}

point_claim() {
	ask "seize kill $1 entry"
	claim_one
	killed
	local passed=$outcome
	[ "$outcome" != passed ] || outcome=''
	[ -n "$outcome" ] || after
	[ -n "$outcome" ] || outcome=$passed
}
# Let go, all of the way back is before it.
point_end() {
	claim_one
	[ -n "$granted" ] && await 10 lent || { outcome="not lent at the beginning: $answer"; return; }
	ask "seize kill $1 entry"
	release
	killed
	await 20 clean || outcome="${outcome:+$outcome; }not clean"
}
# A start finds the record of one that is held.
point_start() {
	claim_one
	[ -n "$granted" ] && await 10 lent || { outcome="not lent at the beginning: $answer"; return; }
	ask kill
	start "kill $1 entry"
	killed
	local passed=$outcome
	[ "$outcome" != passed ] || outcome=''
	[ -n "$outcome" ] || after
	[ -n "$outcome" ] || outcome=$passed
}

sweep() {
	local k=1 from=1 i started took
	total=0 n_lent=0
	"point_$1" 1000000
	is "$outcome" passed "$1: undisturbed it comes to its end, after $total calls" || { diag "$(how_it_is)"; return; }
	started=${EPOCHREALTIME/./}
	"point_$1" $((total / 2))
	took=$((${EPOCHREALTIME/./} - started))
	if [ -z "${THOROUGH:-}" ]; then
		k=$((total * took / (SWEEP_SECONDS * 1000000) + 1))
		from=$((1 + RANDOM % k))
	fi
	wrongs=0 points=0 n_lent=0
	for ((i = from; i < total * 2; i += k)); do
		"point_$1" $i
		[ "$outcome" != passed ] || break
		points=$((points + 1))
		[ -n "$outcome" ] || continue
		wrongs=$((wrongs + 1))
		[ $wrongs -gt 4 ] || diag "$1: $point: $outcome" "$(how_it_is)"
		[ -n "$alive" ] || start
	done
	is $wrongs 0 "$1: $points points (every $k. of $total), after $n_lent of them it was still lent, in $(((${EPOCHREALTIME/./} - started) / 1000000)) s"
	isnt $points 0 '... which are some'
}
