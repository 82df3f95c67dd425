# Reads first the paths of the sources, then those of all built objects, newest first, and prints for each
# source `SOURCE OBJECT`. An object's name is its source's, behind the name of what it is a part of:
# brokerd/claim/.libs/libbrokerd_la-queue.o is of brokerd/claim/queue.c. The newest one counts: what an
# earlier build has left is older, and a test that compiles a file once more has the same symbols.

/\.c$/ {
	sources[++n_sources] = substr($0, 1, length($0) - 2)
	is_source[sources[n_sources]] = 1
	next
}

{
	path = substr($0, 1, length($0) - 2)
	sub(/\.libs\//, "", path)
	if (!(path in is_source)) {
		name = path
		sub(/.*\//, "", name)
		directory = substr(path, 1, length(path) - length(name))
		sub(/^[^-]*-/, "", name)
		path = directory name
	}
	if (path in is_source && !(path in object))
		object[path] = $0
}

END {
	for (i = 1; i <= n_sources; i++)
		print sources[i] ".c", sources[i] in object ? object[sources[i]] : "-"
}
