# shellcheck shell=bash
# What 13-mdev and 14-vendor share: the core killed at each system call while a part of a device is claimed, while its
# lease ends and while a start takes it up. Sourced after breaker.sh, by who says how it is: clean, lent, others_there,
# how_it_is.
# shellcheck disable=SC2154,SC2034

# Seconds for each sweep of the short form.
: "${SWEEP_SECONDS:=25}"

# claim_one: sets group and granted, beside what claim does.
claim_one() {
	claim
	granted='' group=''
	[[ $answer != granted\ * ]] || { granted=1 group=${answer#granted * } group=${group%% *}; }
}
# came_of_it: killed(), and then starts the core again where it was.
came_of_it() {
	killed
	[ -z "$outcome" ] || return
	start
	[ -n "$alive" ] || outcome="the daemon does not start: $reply"
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
# after_plan: came_of_it() and after(), for a plan after which what was granted may still be lent.
after_plan() {
	local passed
	came_of_it
	passed=$outcome
	[ "$outcome" != passed ] || outcome=''
	[ -n "$outcome" ] || after
	[ -n "$outcome" ] || outcome=$passed
}

point_claim() {
	ask "seize kill $1 entry"
	claim_one
	after_plan
}
# Let go, all of the way back is before it.
point_end() {
	claim_one
	[ -n "$granted" ] && await 10 lent || { outcome="not lent at the beginning: $answer"; return; }
	ask "seize kill $1 entry"
	release
	came_of_it
	await 20 clean || outcome="${outcome:+$outcome; }not clean"
}
# A start finds the record of one that is held.
point_start() {
	claim_one
	[ -n "$granted" ] && await 10 lent || { outcome="not lent at the beginning: $answer"; return; }
	ask kill
	start "kill $1 entry"
	after_plan
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

# look_at_parts NAME: all checks of both. NAME is that of the check that an end leaves nothing.
look_at_parts() {
	orphans=0
	claim_one
	like "$answer" '^granted ' 'a claim is granted'
	ok '... and is lent' await 10 lent
	release
	ok "$1" await 10 clean
	sweep claim
	sweep end
	sweep start
	is $orphans 0 'at no point did a worker begin to write to sysfs when its core was dead'
	ask state
	like "$reply" '^alive ' 'the daemon lives'
	ok 'what somebody else made is there after all' others_there
}
