# Reads `SOURCE OBJECT` lines, then what `nm -A` says of the objects, and prints `defines SOURCE SYMBOL` and
# `needs SOURCE SYMBOL`. Local symbols are nobody else's concern. If fortified headers, new C libraries
# or instrumented builds rename a function, it prints the usual name: snprintf for __snprintf_chk.

FNR == NR {
	source[$2] = $1
	next
}

{
	symbol = $NF
	type = $(NF - 1)
	object = $1
	sub(/:.*/, "", object)
	if (type ~ /^[Uwv]$/) {
		if (symbol ~ /^__(asan|ubsan|tsan|msan|lsan|hwasan|sanitizer|odr_asan|gcov|llvm|prof|stack_chk)_/)
			next
		if (symbol ~ /^_?_(GLOBAL_OFFSET_TABLE_|dso_handle|start_|stop_|___asan)/)
			next
		# The compiler's own arithmetic, such as __popcountdi2.
		if (symbol ~ /^__[a-z]+[sdt]i[0-9]$/)
			next
		sub(/^__isoc[0-9]+_/, "", symbol)
		if (symbol ~ /^__.*_chk$/) {
			sub(/^__/, "", symbol)
			sub(/_chk$/, "", symbol)
		}
		print "needs", source[object], symbol
	} else if (type ~ /^[A-Z]$/ && symbol !~ /^__/)
		print "defines", source[object], symbol
}
