# Reads C files and prints what the tests of the tree's shape ask about, one fact a line:
#
#	include FILE "HEADER"		or <HEADER>, in the order of the file
#	declares HEADER NAME		a function or an object that the header declares and does not define
#	private FILE NAME		a static function or object at file scope of a .c
#	function FILE NAME LINES	a function's body, from its first line to its closing brace
#	names FILE WORDS		one of the names that only some files may use; see banned() below
#	lines FILE N
#	wide FILE LINE COLUMNS		a line of more than `columns` columns
#	broken FILE			braces do not match: this program does not understand the file
#
# It is no C parser. It knows comments, literals, braces and semicolons, which is enough for a tree that
# clang-format has laid out. Call it as awk -v columns=100 -f facts.awk FILE...

function end_file()
{
	if (file == "")
		return
	print "lines", file, n_lines
	if (depth != 0 || in_comment)
		print "broken", file
}

# The line without comments and with empty literals. A comment may begin on an earlier line.
function code_of(line, 	out, token)
{
	out = ""
	while (line != "") {
		if (in_comment) {
			if (!(token = index(line, "*/")))
				return out
			line = substr(line, token + 2)
			in_comment = 0
			out = out " "
			continue
		}
		if (!match(line, /"|'|\/\*|\/\//))
			return out line
		token = substr(line, RSTART, RLENGTH)
		out = out substr(line, 1, RSTART - 1)
		line = substr(line, RSTART)
		if (token == "//")
			return out
		if (token == "/*") {
			in_comment = 1
			line = substr(line, 3)
		} else if (match(line, token == "'" ? "^'([^'\\\\]|\\\\.)*'" : "^\"([^\"\\\\]|\\\\.)*\"")) {
			out = out (token == "'" ? "0" : "\"\"")
			line = substr(line, RLENGTH + 1)
		} else
			line = substr(line, 2)
	}
	return out
}

# A declaration without what stands around its name: attributes, and macros that look like calls.
function bare(text)
{
	gsub(/__attribute__[ \t]*\(\([^()]*(\([^()]*\)[^()]*)*\)\)/, "", text)
	gsub(/[A-Z][A-Z0-9_]+[ \t]*\([^()]*\)/, "", text)
	return text
}

# The name of the function that this text declares, or "".
function function_name(text)
{
	if (!match(text, /[A-Za-z_][A-Za-z0-9_]*[ \t]*\(/))
		return ""
	text = substr(text, RSTART, RLENGTH - 1)
	gsub(/[ \t]/, "", text)
	return text ~ /^(_Static_assert|static_assert|typeof|sizeof)$/ ? "" : text
}

# The name of the object that this text declares, or "".
function object_name(text)
{
	sub(/=.*/, "", text)
	gsub(/\[[^]]*\]/, "", text)
	sub(/[ \t]+$/, "", text)
	return match(text, /[A-Za-z_][A-Za-z0-9_]*$/) ? substr(text, RSTART) : ""
}

# Ends a declaration at file scope.
function declaration(text, 	name)
{
	text = bare(text)
	if (text ~ /^[ \t]*(typedef|_Static_assert|static_assert)/)
		return
	if (text ~ /^[ \t]*static[ \t]/) {
		# A prototype of a static function is followed by its body, which counts.
		if (is_c && (text !~ /\(/ || text ~ /=/) && (name = object_name(text)) != "")
			print "private", file, name
	} else if (!is_c) {
		if (text ~ /\(/)
			name = function_name(text)
		else if (text ~ /^[ \t]*extern[ \t]/)
			name = object_name(text)
		if (name != "")
			print "declares", file, name
	}
}

# Names that belong to few files, or to none; layers.t has the table.
function banned(code)
{
	if (match(code, /(^|[^A-Za-z0-9_])struct[ \t]+core([^A-Za-z0-9_]|$)/))
		print "names", file, "struct core"
	if (match(code, /(^|[^A-Za-z0-9_])struct[ \t]+daemon([^A-Za-z0-9_]|$)/))
		print "names", file, "struct daemon"
	if (match(code, /(^|[^A-Za-z0-9_])void[ \t]*\*[ \t]*owner([^A-Za-z0-9_]|$)/))
		print "names", file, "void *owner"
}

function width(line, 	part, n, i, columns)
{
	gsub(/[\200-\277]/, "", line)
	n = split(line, part, "\t")
	for (i = 1; i < n; i++) {
		columns += length(part[i])
		columns += 8 - columns % 8
	}
	return columns + length(part[n])
}

FNR == 1 {
	end_file()
	file = FILENAME
	is_c = file ~ /\.c$/
	depth = in_comment = in_macro = in_cplusplus = is_function = 0
	text = ""
}

{
	n_lines = FNR
	if (length($0) > columns || ($0 ~ /\t/ && length($0) * 8 > columns)) {
		wide = width($0)
		if (wide > columns)
			print "wide", file, FNR, wide
	}

	was_comment = in_comment
	if (!was_comment && $0 ~ /^[ \t]*#[ \t]*include[ \t]*[<"]/) {
		match($0, /[<"][^>"]*[>"]/)
		print "include", file, substr($0, RSTART, RLENGTH)
		next
	}
	line = code_of($0)
	banned(line)

	# Preprocessor lines are no declarations; C++ sees braces that C does not.
	if (in_macro || (!was_comment && line ~ /^[ \t]*#/)) {
		if (line ~ /^[ \t]*#[ \t]*if.*__cplusplus/)
			in_cplusplus = 1
		else if (line ~ /^[ \t]*#[ \t]*endif/)
			in_cplusplus = 0
		in_macro = line ~ /\\$/
		next
	}
	if (in_cplusplus)
		next

	while (match(line, /[{};]/)) {
		token = substr(line, RSTART, 1)
		before = substr(line, 1, RSTART - 1)
		line = substr(line, RSTART + 1)
		if (depth == 0) {
			if (text ~ /^[ \t]*$/ && before !~ /^[ \t]*$/)
				first_line = FNR
			text = text before " "
		}
		if (token == "{") {
			if (depth++ == 0) {
				head = bare(text)
				is_function = head ~ /\)[ \t]*$/ && head !~ /=/
			}
		} else if (token == "}") {
			if (--depth == 0 && is_function) {
				name = function_name(head)
				print "function", file, name, FNR - first_line + 1
				if (is_c && head ~ /^[ \t]*(inline[ \t]+)?static[ \t]/)
					print "private", file, name
				text = ""
				is_function = 0
			}
		} else if (depth == 0) {
			declaration(text)
			text = ""
		}
	}
	if (depth == 0) {
		if (text ~ /^[ \t]*$/ && line !~ /^[ \t]*$/)
			first_line = FNR
		text = text line " "
	}
}

END {
	end_file()
}
