# Reads the floor plan, `ROOM MAY-USE...` a line, then arrows, `FROM TO` a line, both of them files, and prints
# those that the plan does not allow. A room is a folder, or a file at the top of brokerd/ or client/ with its
# header, written without its ending. MAY-USE is a room, or a single header of one.

function room(file)
{
	if (file ~ /^(brokerd|client)\/[^\/]*$/)
		sub(/\.[a-z]+$/, "", file)
	else
		sub(/\/[^\/]*$/, "", file)
	return file
}

FNR == NR {
	if ($0 ~ /^#/ || NF == 0)
		next
	known[$1] = 1
	for (i = 2; i <= NF; i++)
		may[$1, $i] = 1
	next
}

{
	from = room($1)
	to = room($2)
	header = $2
	sub(/\.c$/, ".h", header)
	if (from != to && !((from, to) in may) && !((from, header) in may))
		print $1 " -> " $2
}
