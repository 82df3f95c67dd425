# Reads arrows, `FROM TO` a line, and prints those that are part of a circle: from FROM one can follow arrows
# back to FROM. With -v size=1 prints only the number of places in the largest circle, which is 1 where there
# is none. (Tarjan's strongly connected components.)

{
	if (!(($1, $2) in seen)) {
		seen[$1, $2] = 1
		arrows[++n_arrows] = $0
		after[$1] = after[$1] " " $2
		if (!($1 in place))
			place[$1] = ++n_places
		if (!($2 in place))
			place[$2] = ++n_places
	}
}

function visit(p, 	next_of, n, i, q, members)
{
	order[p] = lowest[p] = ++clock
	stack[++height] = p
	on_stack[p] = 1
	n = split(after[p], next_of, " ")
	for (i = 1; i <= n; i++) {
		q = next_of[i]
		if (!(q in order)) {
			visit(q)
			if (lowest[q] < lowest[p])
				lowest[p] = lowest[q]
		} else if (on_stack[q] && order[q] < lowest[p])
			lowest[p] = order[q]
	}
	if (lowest[p] != order[p])
		return
	n_components++
	members = 0
	do {
		q = stack[height--]
		on_stack[q] = 0
		component[q] = n_components
		members++
	} while (q != p)
	if (members > largest)
		largest = members
}

END {
	largest = 1
	for (p in place)
		if (!(p in order))
			visit(p)
	if (size) {
		print largest
		exit
	}
	for (i = 1; i <= n_arrows; i++) {
		split(arrows[i], end_of, " ")
		if (component[end_of[1]] == component[end_of[2]])
			print arrows[i]
	}
}
