# Prints the sentences of C comments (*.c, *.h), of man pages in mdoc (*.1 to *.8) and of Markdown (*.md), one a
# line, as `FILE:LINE: SENTENCE`. It leaves out all that is no sentence: code, literal displays, headings, the tags of
# lists, the rulers between parts of a file, and whatever has fewer than two words in small letters.

# ---- Paragraphs and sentences ----

# One more word of the paragraph, and its line. Code in it is a word, whatever it holds.
function add(text, line, 	word, n, i)
{
	gsub(/`[^`]*`/, "`code`", text)
	gsub(/[a-z]+:\/\/[^ \t)>]*/, "`url`", text)
	n = split(text, word, /[ \t]+/)
	for (i = 1; i <= n; i++)
		if (word[i] != "") {
			words[++n_words] = word[i]
			line_of[n_words] = line
		}
}

function ends_sentence(word, after)
{
	if (word !~ /[.!?][])"'*_]*$/ || word ~ /^[("]*(e\.g|i\.e|etc|cf|vs|resp|approx|[A-Z])\.$/)
		return 0
	return after == "" || after ~ /^[["'(*_`]*[A-Z0-9`"]/ || after ~ /^[a-z0-9_]*(_|\(|\/)/
}

function print_sentence(from, to, 	i, text, n_small)
{
	for (i = from; i <= to; i++) {
		text = text (i > from ? " " : "") words[i]
		if (words[i] ~ /[a-z][a-z]/ || words[i] == "a")
			n_small++
	}
	if (to > from && n_small > 1 && text !~ /SPDX-License-Identifier|^-+ /)
		print file ":" line_of[from] ": " text
}

function end_paragraph(	i, from)
{
	from = 1
	for (i = 1; i <= n_words; i++)
		if (i == n_words || ends_sentence(words[i], words[i + 1])) {
			print_sentence(from, i)
			from = i + 1
		}
	n_words = 0
}

# ---- C ----

# A line of a comment, without its frame.
function comment_line(text)
{
	if (in_block && first_of_comment != FNR)
		sub(/^[ \t]*\*?/, "", text)
	# An empty line, or one that is set apart: a list of code, a picture.
	if (text ~ /^[ \t]*$/ || (first_of_comment != FNR && framed && text ~ /^(\t|    )/)) {
		end_paragraph()
		return
	}
	if (text ~ /^[ \t]*([-*+]|[0-9]+[.)])[ \t]/) {
		end_paragraph()
		sub(/^[ \t]*([-*+]|[0-9]+[.)])[ \t]/, "", text)
	}
	add(text, FNR)
}

function c_line(line, 	i, token)
{
	while (line != "") {
		if (in_block) {
			framed = line ~ /^[ \t]*\*/
			if (!(i = index(line, "*/"))) {
				comment_line(line)
				return
			}
			comment_line(substr(line, 1, i - 1))
			end_paragraph()
			line = substr(line, i + 2)
			in_block = 0
			continue
		}
		if (!match(line, /"|'|\/\*|\/\//))
			return
		token = substr(line, RSTART, RLENGTH)
		line = substr(line, RSTART)
		if (token == "//") {
			add(substr(line, 3), FNR)
			end_paragraph()
			return
		}
		if (token == "/*") {
			in_block = 1
			first_of_comment = FNR
			line = substr(line, 3)
			sub(/^\*+/, "", line)
		} else if (match(line, token == "'" ? "^'([^'\\\\]|\\\\.)*'" : "^\"([^\"\\\\]|\\\\.)*\""))
			line = substr(line, RLENGTH + 1)
		else
			line = substr(line, 2)
	}
	if (in_block)
		end_paragraph()
}

# ---- mdoc ----

function mdoc_line(line, 	macro, word, n, i, text)
{
	if (line ~ /^\.Bd .*-(literal|unfilled)/)
		literal = 1
	if (line ~ /^\.Ed/)
		literal = 0
	if (literal || line ~ /^[.']\\"/)
		return
	if (line !~ /^\./) {
		gsub(/\\[&%|]/, "", line)
		add(line, FNR)
		return
	}
	macro = substr(line, 2, 2)
	if (macro ~ /^(Sh|Ss|Pp|Bl|El|Bd|Ed|It|D1|Dl|Dd|Dt|Os|Nd|Xo|Xc)$/) {
		end_paragraph()
		return
	}
	# A macro within a sentence: its words, without macros that stand among them. Marks join what is before.
	n = split(line, word, /[ \t]+/)
	if (macro == "Nm" && n == 1)
		text = "`nm`"
	for (i = 2; i <= n; i++) {
		if (word[i] ~ /^(Ns|No|Ar|Fl|Ic|Cm|Pa|Sy|Em|Sq|Dq|Pq|Ql|Li|Ev|Er|Dv|Xr|Nm|Op|Oo|Oc)$/)
			continue
		if (word[i] ~ /^[.,:;!?)]+$/)
			text = text word[i]
		else
			text = text " " word[i]
	}
	if (text ~ /^[.,:;!?)]+$/ && n_words > 0)
		words[n_words] = words[n_words] text
	else
		add(text, FNR)
}

# ---- Markdown ----

function markdown_line(line, 	cell, n, i)
{
	if (line ~ /^[ \t]*(```|~~~)/) {
		end_paragraph()
		literal = !literal
		return
	}
	if (literal)
		return
	gsub(/\*\*/, "", line)
	if (line ~ /^[ \t]*$/ || line ~ /^#/ || line ~ /^[-=]+$/) {
		end_paragraph()
		return
	}
	if (line ~ /^[ \t]*\|/) {
		end_paragraph()
		n = split(line, cell, "|")
		for (i = 1; i <= n; i++) {
			add(cell[i], FNR)
			if (n_words > 3)
				end_paragraph()
			n_words = 0
		}
		return
	}
	if (line ~ /^[ \t]*([-*+]|[0-9]+[.)])[ \t]/) {
		end_paragraph()
		sub(/^[ \t]*([-*+]|[0-9]+[.)])[ \t]/, "", line)
	}
	add(line, FNR)
}

FNR == 1 {
	end_paragraph()
	file = FILENAME
	kind = file ~ /\.[ch]$/ ? "c" : file ~ /\.md$/ ? "markdown" : "mdoc"
	in_block = literal = 0
}

kind == "c" {
	c_line($0)
}

kind == "markdown" {
	markdown_line($0)
}

kind == "mdoc" {
	mdoc_line($0)
}

END {
	end_paragraph()
}
