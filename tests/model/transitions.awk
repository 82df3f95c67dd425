# Makes a Promela include of brokerd/state/lease.h's events and brokerd/state/lease.c's table of states, the files
# in this order. A line that it does not understand ends it with status 1, so nothing is left out silently.

function fail(why)
{
	print FILENAME ":" FNR ": " why > "/dev/stderr"
	failed = 1
	exit 1
}

# Comments, which may go over lines, and the spaces around what is left.
{
	line = ""
	rest = $0
	while (rest != "") {
		if (comment) {
			i = index(rest, "*/")
			if (!i)
				break
			rest = substr(rest, i + 2)
			comment = 0
		} else {
			i = index(rest, "/*")
			line = line (i ? substr(rest, 1, i - 1) : rest)
			rest = i ? substr(rest, i + 2) : ""
			comment = i > 0
		}
	}
	sub(/^[ \t]+/, "", line)
	sub(/[ \t]+$/, "", line)
}

line == "" {
	next
}

FILENAME ~ /lease\.h$/ {
	if (line == "enum lease_event {") {
		in_events = 1
	} else if (in_events && line == "};") {
		in_events = 0
	} else if (in_events) {
		if (line !~ /^LEASE_[A-Z_]+,$/)
			fail("this is no event: " line)
		name = substr(line, 1, length(line) - 1)
		if (name == "LEASE_N_EVENTS") {
			counted = n_events
		} else {
			is_event[name] = 1
			events[n_events++] = name
		}
	}
	next
}

/^#define [A-Z]+ GPUBROKER_LEASE_[A-Z]+$/ {
	if ($3 != "GPUBROKER_LEASE_" $2)
		fail("a state by another name: " line)
	is_state[$2] = 1
	states[n_states++] = $2
	next
}

line == "static const enum gpubroker_lease_state transitions[][LEASE_N_EVENTS] = {" {
	in_table = 1
	next
}

in_table {
	if (from == "" && line == "};") {
		in_table = 0
		complete = 1
	} else if (from == "" && line ~ /^\[[A-Z]+\] = \{$/) {
		from = substr(line, 2, index(line, "]") - 2)
		if (!(from in is_state))
			fail("this is no state: " from)
		if (from in has_row)
			fail("a second row: " from)
		has_row[from] = 1
	} else if (from != "" && line == "},") {
		from = ""
	} else if (from != "" && line ~ /^\[[A-Z_]+\] = [A-Z]+,$/) {
		event = substr(line, 2, index(line, "]") - 2)
		to = substr(line, index(line, "= ") + 2)
		sub(/,$/, "", to)
		if (!(event in is_event) || !(to in is_state))
			fail("no such event or state: " line)
		if ((from, event) in table)
			fail("said twice: " line)
		table[from, event] = to
		n_entries++
	} else {
		fail("not understood: " line)
	}
}

END {
	if (failed)
		exit 1
	if (!complete || comment || in_events || !n_states || !n_entries || !counted ||
	    counted != n_events) {
		print "the events or the table were not found, or not wholly" > "/dev/stderr"
		exit 1
	}
	print "/* Made of brokerd/state/lease.h and brokerd/state/lease.c by tests/model/transitions.awk. */"
	for (i = 0; i < n_states; i++) {
		if (!(states[i] in has_row)) {
			print "no row for the state " states[i] > "/dev/stderr"
			exit 1
		}
		print "#define " states[i] " " i + 1
	}
	for (i = 0; i < n_events; i++)
		print "#define " events[i] " " i
	printf "#define NEXT(s, e) "
	for (i = 0; i < n_states; i++) {
		printf "(s == %s -> ", states[i]
		for (k = 0; k < n_events; k++)
			if ((states[i], events[k]) in table)
				printf "(e == %s -> %s : ", events[k], table[states[i], events[k]]
		printf "0"
		for (k = 0; k < n_events; k++)
			if ((states[i], events[k]) in table)
				printf ")"
		printf " : "
	}
	printf "0"
	for (i = 0; i < n_states; i++)
		printf ")"
	print ""
}
