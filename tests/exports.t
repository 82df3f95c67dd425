#!/bin/sh
# libgpubroker.so exports exactly the functions that gpubroker.h declares, and gpubroker.3 describes them, each struct's
# fields and each refusal.
# shellcheck disable=SC2317,SC2086 # functions are called by name, through tap_ok

# shellcheck source=tests/tap.sh
. "$(dirname "$0")/tap.sh"
so=$top_builddir/client/.libs/libgpubroker.so.0
dir=$(mktemp -d) || exit 99
trap 'rm -rf "$dir"' EXIT

exported() {
	${NM:-nm} -D --defined-only "$so" | sed -nE 's/.* [A-Z] ([^@]*)(@.*)?$/\1/p' |
		grep -vx LIBGPUBROKER_0 | sort
}

# Comments and function types are not declarations.
declared() {
	sed -e 's|/\*.*\*/||' -e '/\/\*/,/\*\//d' -e '/^typedef/d' "$top_srcdir/client/gpubroker.h" |
		grep -oE '\bgpubroker_[a-z0-9_]+\(' | tr -d '(' | sort -u
}

same() {
	[ -n "$(exported)" ] || {
		echo "no symbol at all"
		return 1
	}
	missing=$(declared | grep -vxF "$(exported)")
	extra=$(exported | grep -vxF "$(declared)")
	[ -z "$missing$extra" ] || {
		echo "declared only:" $missing
		echo "exported only:" $extra
		return 1
	}
}

header=$top_srcdir/client/gpubroker.h
manual=$top_srcdir/client/gpubroker.3

# What the header says, without comments, on one line.
plain_header() {
	grep -v '^#' "$header" | tr '\n\t' '  ' | sed -E 's|/\*([^*]\|\*+[^*/])*\*+/||g; s/  +/ /g'
}

# A function a line, "int gpubroker_fd(const struct gpubroker *handle)".
prototypes_of_header() {
	plain_header | tr ';' '\n' | grep -v typedef | sed -E 's/^.*[}{] *//; s/^ +//' |
		grep -E '^[a-z0-9_ *]+gpubroker_[a-z0-9_]+\(' | sort
}

prototypes_of_manual() {
	sed -n '/^\.Sh SYNOPSIS/,/^\.Sh A FIRST/p' "$manual" | awk -F'"' '
		# The quoted words, with commas between them.
		function arguments(	i, all) {
			for (i = 2; i < NF; i += 2)
				all = all (i > 2 ? ", " : "") $i
			return all
		}
		function end() {
			print type (type ~ /\*$/ ? "" : " ") name "(" all ")"
		}
		/^\.Ft/ { type = $0; sub(/^\.Ft /, "", type); gsub(/"/, "", type) }
		/^\.F[no]/ { split($0, word, " "); name = word[2]; all = "" }
		/^\.Fn/ { all = arguments(); end() }
		/^\.Fa/ { all = all (all == "" ? "" : ", ") arguments() }
		/^\.Fc/ { end() }' | sort
}

same_prototypes() {
	prototypes_of_header >"$dir/header"
	prototypes_of_manual >"$dir/manual"
	[ "$(wc -l <"$dir/header")" -eq "$(declared | wc -l)" ] && diff "$dir/header" "$dir/manual"
}

# Each function has an entry besides its prototype.
described() {
	sed '1,/^\.Sh DESCRIPTION/d; /^\.Sh FILES/,$d' "$manual" >"$dir/text"
	undescribed=$(declared | while read -r f; do grep -qwE "^\.(It )?Fn .*$f" "$dir/text" || echo "$f"; done)
	[ -z "$undescribed" ] || {
		echo "not described:" $undescribed
		return 1
	}
}

# STRUCT FIELD TYPE, in the order of the header; the manual lists those of gpubroker_wanted in a sentence.
fields_of_header() {
	plain_header | grep -oE 'struct gpubroker_[a-z]+ \{[^}]*\}' | grep -v '^struct gpubroker_wanted' |
		sed -E 's/^struct (gpubroker_[a-z]+) \{ */\1;/; s/ *\}//' | awk -F' *; *' '{
			for (i = 2; i <= NF; i++) {
				if ($i == "")
					continue
				type = $i
				if (match(type, /\(\*[a-z]+\)/)) {
					name = substr(type, RSTART + 2, RLENGTH - 3)
					sub(/ *\(\*[a-z]+\)/, " (*)", type)
					print $1, name, type
					continue
				}
				n = split(type, part, / *, */)
				base = part[1]
				sub(/[a-z_0-9]+(\[[0-9]+\])?$/, "", base)
				for (j = 1; j <= n; j++) {
					name = part[j]
					array = ""
					if (match(name, /\[[0-9]+\]$/)) {
						array = substr(name, RSTART)
						name = substr(name, 1, RSTART - 1)
					}
					sub(/^.*[ *]/, "", name)
					whole = base array
					sub(/^const /, "", whole)
					sub(/ $/, "", whole)
					print $1, name, whole
				}
			}
		}'
}

fields_of_manual() {
	awk '/^\.Ss struct / { struct = $3 }
		/^\.Ss/ && !/^\.Ss struct / { struct = "" }
		/^\.It [a-z_]+ Ta / && struct != "" {
			name = $2
			sub(/^\.It [a-z_]+ Ta /, "")
			sub(/ Ta .*/, "")
			gsub(/"/, "")
			print struct, name, $0
		}' "$manual"
}

same_fields() {
	fields_of_header | sort >"$dir/header"
	fields_of_manual | sort >"$dir/manual"
	[ "$(wc -l <"$dir/header")" -gt 80 ] && diff "$dir/header" "$dir/manual"
}

same_refusals() {
	sed -nE 's/^\tX\(([A-Z_]+), *([0-9]+),.*/\1 \2/p' "$header" >"$dir/header"
	sed -nE 's/^\.It ([A-Z_]+) Ta ([0-9]+) Ta .*/\1 \2/p' "$manual" >"$dir/manual"
	[ -s "$dir/header" ] && diff "$dir/header" "$dir/manual"
}

# The first program of the manual, as a reader would copy it.
compiles() {
	sed -n '/^#include <gpubroker.h>/,/^\.Ed/{/^\.Ed/d;s/\\e/\\/g;p;}' "$manual" >"$dir/first.c"
	grep -q gpubroker_claim_run "$dir/first.c" &&
		${CC:-cc} -std=c99 -Wall -Wextra -Werror -fsyntax-only -I"$top_srcdir/client" "$dir/first.c"
}

if [ -e "$so" ]; then
	tap_ok "exported and declared functions are the same" same
else
	tap_skip "exported and declared functions are the same" "configured with --disable-shared"
fi
tap_ok "the manual has the header's prototypes" same_prototypes
tap_ok "and describes each function" described
tap_ok "and the fields of each struct" same_fields
tap_ok "and each refusal" same_refusals
tap_ok "its first program compiles" compiles
tap_done
