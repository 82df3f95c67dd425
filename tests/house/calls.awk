# Reads facts and prints `calls FROM TO SYMBOL` for each symbol that a source needs and another one defines.
# A name that several sources define (one in the daemon, one in the command) is that of the same top folder.

function top(path)
{
	sub(/\/.*/, "", path)
	return path
}

$1 == "defines" {
	if (!($3 in definer))
		definer[$3] = $2
	definer[$3, top($2)] = $2
}

$1 == "needs" {
	needs[++n] = $2 " " $3
}

END {
	for (i = 1; i <= n; i++) {
		split(needs[i], need, " ")
		from = need[1]
		to = (need[2], top(from)) in definer ? definer[need[2], top(from)] : definer[need[2]]
		if (to != "" && to != from)
			print "calls", from, to, need[2]
	}
}
