#!/bin/sh
# The sources keep to the floor plan: folders include and call only the folders that the plan allows; a header has
# its source's name; a name with one owner occurs only there; no file, function or line is too long.
#
#	layers.t                the test; CC, NM, top_srcdir and top_builddir as `make check` sets them
#	layers.t --figures      how far it is from the plan, in numbers
#	layers.t --exceptions   today's faults, as tests/layers.exceptions has them
#
# The last two read any checkout with brokerd/, client/ and policy/, and at its build:
#
#	top_srcdir=CHECKOUT top_builddir=BUILD tests/layers.t --figures
#
# (The figures about the floor plan mean nothing if all of brokerd/ is in one folder.)
#
# How it works: facts.awk reads all sources and nm all objects, into one list of facts, a line each. A rule is a
# function that reads the list and prints each fault as `WHERE -> WHAT`. Each rule is tried twice: on this tree,
# where the faults must be those of tests/layers.exceptions, and on the tree with planted faults, which it must
# find.
# shellcheck disable=SC2317,SC2012,SC2030,SC2031,SC2046,SC2086 # functions are called by name; names have no spaces

# shellcheck source=tests/tap.sh
. "$(dirname "$0")/tap.sh"
house=$(cd "$(dirname "$0")/house" && pwd) || exit 99
top_builddir=$(cd "$top_builddir" && pwd) || exit 99
cd "$top_srcdir" || exit 99
top_srcdir=$(pwd)
# shellcheck source=tests/exceptions.sh
. "$house/../exceptions.sh"
dir=$(mktemp -d) || exit 99
trap 'rm -rf "$dir"' EXIT

most_lines=600		# of a .c
most_of_function=60	# lines
most_columns=100	# of a line, a tab being 8
most_private_names=14	# static names that several files have

# ---- The floor plan ----

# A room, and the rooms that it may use besides itself. A room is a folder, or a file at the top of
# brokerd/ or client/ with its header, without an ending. A single header may stand for its room. HACKING.md has
# the picture.
floor_plan() {
	# All of the daemon may use the code that it shares with the command, and the policy.
	shared="client/common client/wire client/host policy"
	state="brokerd/state"
	kernel="brokerd/kernel"
	process="brokerd/process"
	below_lease="$kernel $state $process brokerd/record"
	below_claim="$below_lease brokerd/lease"
	below_peer="$below_claim brokerd/claim brokerd/prepare"
	below_core="$below_peer brokerd/peer brokerd/helper"

	cat <<-PLAN
		client/common
		client/wire		client/common
		policy			client/common
		client/host		client/common policy
		client/gpubroker
		client/library		client/gpubroker client/common client/wire
		client/command		client/gpubroker client/common client/host policy
		client/run		client/gpubroker client/common client/host client/command/cli.h client/command/arguments.h client/command/names.h client/command/denied.h client/command/moments.h client/command/screen.h client/command/refused.h client/command/json-out.h
		# HTTP, and a process beside it that executes this command: no broker's protocol, no device.
		client/serve		client/gpubroker client/common client/wire/passfd.h client/command/cli.h client/command/arguments.h client/command/refused.h client/command/json-out.h
		# main() and the table of commands, which no command may call back.
		client/main		client/gpubroker client/common client/command client/run client/serve
		client/policy-install	-
		# main() of gpubroker-qemu.
		client/qemu		client/common client/host client/run/emulator.h

		brokerd/kernel		$shared
		# The reasons of a refusal, which the library's users see too, are in gpubroker.h.
		brokerd/state		$shared client/gpubroker
		brokerd/process		$shared $kernel
		brokerd/record		$shared $state $process
		brokerd/helper		$shared $state $process
		# The runner of hooks is a program of its own.
		brokerd/hooks		$shared $state brokerd/helper/helper.h brokerd/process/log.h
		brokerd/lease		$shared $below_lease
		brokerd/claim		$shared $below_claim
		brokerd/prepare		$shared $below_claim
		brokerd/peer		$shared $below_peer
		brokerd/core		$shared $below_core brokerd/serve
		brokerd/serve		$shared $below_core brokerd/core.h
		brokerd/daemon		$shared $below_core brokerd/core brokerd/serve
		brokerd/main		$shared $process brokerd/helper brokerd/daemon
	PLAN
}

# ---- What is listed by name ----

# Sources without a header of their name, and the header that declares their functions.
sources_without_header() {
	cat <<-LIST
		brokerd/main.c			-
		brokerd/hooks/main.c		-
		client/main.c			-
		client/policy-install.c		-
		client/qemu.c			-
		brokerd/kernel/attributes.c	brokerd/kernel/kernel.h
		brokerd/kernel/vfio.c		brokerd/kernel/kernel.h
		client/library/allot.c		client/gpubroker.h
		client/library/listing.c	client/gpubroker.h
		client/command/allot.c		client/command/cli.h
		client/command/allotments.c	client/command/cli.h
		client/command/complete.c	client/command/cli.h
		client/command/denied.c		client/command/cli.h
		client/command/doctor-device.c	client/command/doctor.h
		client/command/doctor-host.c	client/command/doctor.h
		client/command/doctor-iommu.c	client/command/doctor.h
		client/command/doctor-memory.c	client/command/doctor.h
		client/command/drivers-make.c	client/command/drivers.h
		client/command/edit.c		client/command/policy.h
		client/command/examine.c	client/command/cli.h
		client/command/explain.c	client/command/policy.h
		client/command/facts-caller.c	client/command/facts.h
		client/command/facts-denials.c	client/command/facts.h
		client/command/facts-device.c	client/command/facts.h
		client/command/facts-host.c	client/command/facts.h
		client/command/facts-iommu.c	client/command/facts.h
		client/command/install.c	client/command/policy.h
		client/command/list.c		client/command/cli.h
		client/command/metrics.c	client/command/cli.h
		client/command/usage.c		client/command/cli.h
		client/command/prepare.c	client/command/cli.h
		client/command/profiles.c	client/command/cli.h
		client/command/release.c	client/command/cli.h
		client/command/reload.c		client/command/policy.h
		client/command/retract.c	client/command/cli.h
		client/command/vfs.c		client/command/cli.h
		client/command/watch.c		client/command/cli.h
		client/serve/reply.c		client/serve/exchange.h
		client/run/attach.c		client/command/cli.h
		client/run/detach.c		client/command/cli.h
		client/run/run.c		client/command/cli.h
		policy/lint.c			policy/policy.h
		policy/valid.c			policy/policy.h
		policy/verdict.c		policy/policy.h
	LIST
}

# Headers whose declarations are defined by other sources than that of their name, and the folders of these.
headers_of_many() {
	cat <<-LIST
		brokerd/kernel/kernel.h		brokerd/kernel
		brokerd/lease/kind.h		brokerd/lease
		brokerd/lease/leases.h		brokerd/lease
		brokerd/claim/claimant.h	-
		brokerd/claim/selection.h	-
		client/wire/protocol.h		-
		client/common/util.h		-
		client/gpubroker.h		client/library
		client/serve/exchange.h		client/serve
		client/command/cli.h		client/command client/run
		client/command/doctor.h		client/command
		client/command/drivers.h	client/command
		client/command/facts.h		client/command
		client/command/policy.h		client/command
		policy/policy.h			policy
	LIST
}

# Names, and the files that may use them; nobody but core.c knows all parts of the daemon.
owners_of_names() {
	cat <<-'LIST'
		struct core	brokerd/core.c brokerd/core.h brokerd/daemon.c brokerd/serve.c brokerd/serve.h
		struct daemon	-
		void *owner	-
	LIST
}

# Libraries: their headers and their functions, as patterns, and the sources that may use them.
owners_of_libraries() {
	cat <<-'LIST'
		libseccomp	seccomp\.h			seccomp_		brokerd/process/filter\.c
		libcap-ng	cap-ng\.h			capng_			brokerd/process/confine\.c
		Landlock	linux/landlock\.h		-			brokerd/process/landlock\.c
		libudev		libudev\.h			udev_			brokerd/helper/watcher\.c
		libnl		netlink/.*			(nl|nla|nlmsg|genl)_	brokerd/helper/watcher\.c
		libevent	(event|evutil|event2/.*)\.h	(event|evutil|evtimer|evsignal|evbuffer|bufferevent|libevent)_	brokerd/((process|helper|lease|claim|prepare|peer)/.*|(core|serve|daemon)\.[ch])
		json-c		(json|json-c/.*|json_.*)\.h	(json|array_list|lh|printbuf)_	client/.*
	LIST
}

# The functions of the C library that the folders which only compute may call: memory, text, sorting and searching.
pure_folders='brokerd/state policy'
pure_functions='
	calloc free malloc realloc reallocarray
	bcmp memchr memcmp memcpy memmem memmove mempcpy memset
	stpcpy strchr strchrnul strcmp strcpy strcspn strdup strlen strncasecmp strncmp strndup strnlen strpbrk
	strcasecmp strrchr strspn strstr strtok_r strtol strtoul strtoull strerror
	snprintf vsnprintf sscanf toupper tolower __ctype_b_loc __ctype_tolower_loc __ctype_toupper_loc
	bsearch qsort tdelete tdestroy tfind tsearch twalk
	__errno_location'

# ---- Facts ----

sources() {
	find brokerd client policy -name '*.[ch]' | sort
}

# objects_facts: reads the paths of sources; their objects are below the current directory.
objects_facts() {
	cat >"$dir/sources"
	find brokerd client policy -name '*.o' >"$dir/found.objects" 2>/dev/null
	[ -s "$dir/found.objects" ] || {
		echo "no objects below $(pwd); is the tree built?" >&2
		return 1
	}
	ls -t $(cat "$dir/found.objects") | cat "$dir/sources" - |
		awk -f "$house/objects.awk" >"$dir/objects" || return 1
	sed 's/^/object /' "$dir/objects"
	${NM:-nm} -A $(awk '$2 != "-" { print $2 }' "$dir/objects") >"$dir/nm" 2>"$dir/nm.errors" ||
		{ cat "$dir/nm.errors" >&2; return 1; }
	awk -f "$house/symbols.awk" "$dir/objects" "$dir/nm"
}

sources_facts() {
	awk -v columns="$most_columns" -f "$house/facts.awk" $(sources)
}

with_calls() {
	cat "$@" >"$dir/joined"
	awk -f "$house/calls.awk" "$dir/joined" | cat "$dir/joined" -
}

# ---- Rules: each reads the facts in $facts and prints its faults ----

include_arrows() {
	awk '$1 == "include" && $3 ~ /^"/ && $3 != "\"config.h\"" { gsub(/"/, "", $3); print $2, $3 }' "$facts"
}

call_arrows() {
	awk '$1 == "calls" { print $2, $3 }' "$facts" | sort -u
}

as_faults() {
	sed 's/ / -> /'
}

# Files in folders of which the plan knows nothing.
rule_room() {
	floor_plan | awk '
		FNR == NR { if ($0 !~ /^#/) known[$1] = 1; next }
		$1 == "lines" {
			room = $2
			if (room ~ /^(brokerd|client)\/[^\/]*$/)
				sub(/\.[a-z]+$/, "", room)
			else
				sub(/\/[^\/]*$/, "", room)
			if (!(room in known))
				print $2 " -> no room of the plan"
		}' - "$facts"
}

rule_include() {
	include_arrows >"$dir/arrows"
	floor_plan | awk -f "$house/plan.awk" - "$dir/arrows"
}

rule_include_circle() {
	include_arrows | awk -f "$house/circles.awk" | as_faults
}

# The library's functions belong to its public header: a room that may include that may call them.
rule_call() {
	awk '$1 == "calls" {
		print $2, ($4 ~ /^gpubroker_/ && $3 ~ /^client\/library\// ? "client/gpubroker.h" : $3)
	}' "$facts" | sort -u >"$dir/arrows"
	floor_plan | awk -f "$house/plan.awk" - "$dir/arrows"
}

rule_call_circle() {
	call_arrows | awk -f "$house/circles.awk" | as_faults
}

# A source includes the header that declares it first, so that the header stands alone.
rule_own_header() {
	sources_without_header | awk '
		FNR == NR { face[$1] = $2; next }
		$1 == "lines" { is_file[$2] = 1 }
		$1 == "include" && $2 ~ /\.c$/ && $3 != "\"config.h\"" && !($2 in first) { first[$2] = $3 }
		END {
			for (file in is_file) {
				if (file !~ /\.c$/)
					continue
				header = substr(file, 1, length(file) - 2) ".h"
				if (!(header in is_file))
					header = file in face ? face[file] : "-"
				if (header != "-" && first[file] != "\"" header "\"")
					print file " -> " header " is not the first"
			}
		}' - "$facts"
}

rule_no_header() {
	sources_without_header | awk '
		FNR == NR { listed[$1] = 1; next }
		$1 == "lines" { is_file[$2] = 1 }
		END {
			for (file in is_file)
				if (file ~ /\.c$/ && !(file in listed) && !(substr(file, 1, length(file) - 2) ".h" in is_file))
					print file " -> no header"
		}' - "$facts"
}

rule_no_source() {
	headers_of_many | awk '
		FNR == NR { listed[$1] = 1; next }
		$1 == "lines" { is_file[$2] = 1 }
		END {
			for (file in is_file)
				if (file ~ /\.h$/ && !(file in listed) && !(substr(file, 1, length(file) - 2) ".c" in is_file))
					print file " -> no source"
		}' - "$facts"
}

# The source of its name, or the folders that are listed for it, define all that a header declares.
rule_declared() {
	headers_of_many | awk '
		function folder(path) { sub(/\/[^\/]*$/, "", path); return path }
		function top(path) { sub(/\/.*/, "", path); return path }
		FNR == NR { for (i = 2; i <= NF; i++) of_many[$1, $i] = 1; next }
		$1 == "declares" { header[++n] = $2; name[n] = $3 }
		$1 == "defines" { definer[$3] = $2; definer[$3, top($2)] = $2 }
		END {
			for (i = 1; i <= n; i++) {
				h = header[i]
				by = (name[i], top(h)) in definer ? definer[name[i], top(h)] : definer[name[i]]
				if (by == "")
					print h " -> " name[i] " is nowhere"
				else if (by != substr(h, 1, length(h) - 2) ".c" && !((h, folder(by)) in of_many))
					print h " -> " by
			}
		}' - "$facts" | sort -u
}

rule_name() {
	owners_of_names | awk -F '\t+' '
		FNR == NR { n = split($2, file, " "); for (i = 1; i <= n; i++) may[$1, file[i]] = 1; next }
		/^names / {
			split($0, word, " ")
			name = substr($0, length("names " word[2] " ") + 1)
			if (!((name, word[2]) in may))
				print word[2] " -> " name
		}' - "$facts" | sort -u
}

rule_library() {
	owners_of_libraries | awk '
		FNR == NR {
			library[++n] = $1
			header[n] = "^<" $2 ">$"
			symbol[n] = $3 == "-" ? "" : "^" $3
			owner[n] = "^" $4 "$"
			next
		}
		$1 == "include" && $3 ~ /^</ {
			for (i = 1; i <= n; i++)
				if ($3 ~ header[i] && $2 !~ owner[i])
					print $2 " -> " library[i]
		}
		$1 == "defines" { ours[$3] = 1 }
		$1 == "needs" { needs[++n_needs] = $2 " " $3 }
		END {
			for (j = 1; j <= n_needs; j++) {
				split(needs[j], need, " ")
				for (i = 1; i <= n; i++)
					if (symbol[i] != "" && need[2] ~ symbol[i] && need[1] !~ owner[i] && !(need[2] in ours))
						print need[1] " -> " library[i]
			}
		}' - "$facts" | sort -u
}

rule_pure() {
	awk -v folders="$pure_folders" -v functions="$pure_functions" '
		BEGIN {
			n = split(folders, folder, " "); for (i = 1; i <= n; i++) pure[folder[i]] = 1
			n = split(functions, name, " "); for (i = 1; i <= n; i++) permitted[name[i]] = 1
			n = 0
		}
		$1 == "defines" { permitted[$3] = 1 }
		$1 == "needs" {
			place = $2
			sub(/\/[^\/]*$/, "", place)
			if (place in pure)
				needs[++n] = $2 " " $3
		}
		END {
			for (i = 1; i <= n; i++) {
				split(needs[i], need, " ")
				if (!(need[2] in permitted))
					print need[1] " -> " need[2]
			}
		}' "$facts"
}

rule_long_file() {
	awk -v most="$most_lines" '$1 == "lines" && $2 ~ /\.c$/ && $3 > most {
		print $2 " -> more than " most " lines"
	}' "$facts"
}

rule_long_function() {
	awk -v most="$most_of_function" '$1 == "function" && $4 > most { print $2 " -> " $3 }' "$facts"
}

rule_wide() {
	awk -v most="$most_columns" '$1 == "wide" { print $2 " -> more than " most " columns" }' "$facts" | sort -u
}

# Every source is in the build, and its braces match.
rule_unread() {
	awk '$1 == "object" && $3 == "-" { print $2 " -> not built" } $1 == "broken" { print $2 " -> braces" }' "$facts"
}

# Each static name that several files have, and the files.
private_names() {
	awk '$1 == "private" && !(($2, $3) in seen) {
			seen[$2, $3] = 1
			n[$3]++
			files[$3] = files[$3] " " $2
		}
		END { for (name in n) if (n[name] > 1) print name ":" files[name] }' "$facts" | sort
}

# The plan and the lists are true: all that they name exists, and no listed source has a header of its name.
rule_listed() {
	{
		floor_plan | awk '$0 !~ /^#/ && NF > 0 { print "room", $1 }'
		sources_without_header | awk '{ print "source", $1 }'
		headers_of_many | awk '{ print "header", $1 }'
	} | awk '
		FNR == NR { kind[++n] = $1; listed[n] = $2; next }
		$1 == "lines" {
			is_file[$2] = 1
			place = $2
			sub(/\/[^\/]*$/, "", place)
			is_room[place] = 1
			place = $2
			sub(/\.[a-z]+$/, "", place)
			is_room[place] = 1
		}
		END {
			for (i = 1; i <= n; i++)
				if (kind[i] == "room" ? !(listed[i] in is_room) : !(listed[i] in is_file))
					print listed[i] " -> is not there"
				else if (kind[i] == "source" && (substr(listed[i], 1, length(listed[i]) - 2) ".h" in is_file))
					print listed[i] " -> has a header"
		}' - "$facts"
}

rules='room include include_circle call call_circle own_header no_header no_source declared name library pure
	long_file long_function wide unread listed'

# ---- Figures, and the list of exceptions ----

gather() {
	sources_facts >"$dir/facts.sources" || return 1
	sources | grep '\.c$' >"$dir/c"
	(cd "$top_builddir" && objects_facts <"$dir/c") >"$dir/facts.objects" || return 1
	with_calls "$dir/facts.sources" "$dir/facts.objects" >"$dir/facts"
}

# of TEXT COMMAND: prints the number of lines that the command prints.
of() {
	echo "$(eval "$2" | wc -l | tr -d ' ')" "$1"
}

figures() {
	for part in brokerd client policy; do
		echo "$(call_arrows | grep -E "^$part/[^ ]* $part/" | awk -v size=1 -f "$house/circles.awk")" \
			"files in the largest circle of calls, $part/ (1: there is none)"
	done
	of "arrows of calls between files, brokerd/" "call_arrows | grep -E '^brokerd/[^ ]* brokerd/'"
	of "  of them against the floor plan" "rule_call | grep -E '^brokerd/[^ ]* -> brokerd/'"
	of "arrows of calls between files, everywhere" call_arrows
	of "  of them against the floor plan" rule_call
	of "arrows of includes against the floor plan, everywhere" rule_include
	of "of $(sources | grep -c '^brokerd/.*\.c$') .c in brokerd/ have no header of their own" "rule_no_header_at_all | grep ^brokerd/"
	of "  of them not listed by name" "rule_no_header | grep ^brokerd/"
	of "headers that declare what another source defines" "rule_declared | sed 's/ .*//' | sort -u"
	of "functions over 60 lines" "awk '\$1 == \"function\" && \$4 > 60' '$facts'"
	of "functions over 100 lines" "awk '\$1 == \"function\" && \$4 > 100' '$facts'"
	of ".c over $most_lines lines" rule_long_file
	of "lines over $most_columns columns" "awk '\$1 == \"wide\"' '$facts'"
	of "private names that several files share" private_names
	of "  of them in several files of brokerd/" "private_names | grep ' brokerd/.* brokerd/'"
}

rule_no_header_at_all() {
	sources_without_header() { echo; }
	rule_no_header
}

print_exceptions() {
	for rule in $rules; do rule_$rule | sort -u | sed "s/^/$rule: /"; done
	n=$(private_names | wc -l | tr -d ' ')
	[ "$n" -le "$most_private_names" ] || echo "private_names: all -> $n"
}

facts=$dir/facts
case ${1-} in
--figures)
	gather && figures
	exit
	;;
--exceptions)
	gather && print_exceptions
	exit
	;;
esac

# ---- The faults that each rule must find ----

# shellcheck source=tests/house/plant.sh
. "$house/plant.sh"

# finds RULE: the rule reports each fault planted for it, and nothing that only looks like one.
finds() (
	facts=$dir/planted
	rule_$1 | sort -u >"$dir/reported"
	planted_faults | sed -n "s/^$1: //p" | sort >"$dir/expected"
	[ -s "$dir/expected" ] || { echo "nothing is planted"; exit 1; }
	comm -13 "$dir/reported" "$dir/expected" | sed 's/^/not found: /' >"$dir/wrong"
	planted_rights | sed -n "s/^$1: //p" | sort | comm -12 "$dir/reported" - | sed 's/^/no fault: /' >>"$dir/wrong"
	cat "$dir/wrong"
	[ ! -s "$dir/wrong" ]
)

few_private_names() {
	counted private_names all "$most_private_names" "$(private_names | wc -l | tr -d ' ')" && return
	private_names
	return 1
}

finds_private_names() (
	before=$(private_names | wc -l)
	facts=$dir/planted
	[ "$(private_names | wc -l)" -gt "$before" ] &&
		private_names | grep -x 'planted_private: brokerd/peer/planted\.c brokerd/state/planted\.c' &&
		! counted planted_names all 0 1
)

# ---- Single facts, older than the plan ----

# only PATTERN...: fails if standard input has a line that matches none of the patterns, and shows it. Also fails
# without any line, which would be a fault of this test.
only() {
	pattern=$(printf '|%s' "$@")
	lines=$(cat)
	[ -n "$lines" ] && ! printf '%s\n' "$lines" | grep -vE "${pattern#|}"
}

# includes FILE...: prints the headers that the files include, as `FILE: <name>` or `FILE: "name"`.
includes() {
	grep -HE '^[[:space:]]*#[[:space:]]*include' "$@" |
		sed -E 's/^([^:]*):[^<"]*([<"][^>"]*[>"]).*/\1: \2/'
}

written_out() {
	includes $(find brokerd client policy tests -name '*.[chly]') |
		only ': <' ': "config\.h"' ': "(brokerd|client|policy|tests)(/[a-z0-9-]+)+\.h"'
}

there() {
	missing=$(includes $(find brokerd client policy tests -name '*.[chly]') | sed -n 's/.*: "\(.*\)"/\1/p' | sort -u |
		while read -r header; do [ "$header" = config.h ] || [ -e "$header" ] || echo "$header"; done)
	[ -z "$missing" ] || {
		echo "$missing"
		return 1
	}
}

command_uses_library() {
	include_arrows | grep -qE '^client/(command|run)/[^ ]* client/gpubroker\.h$'
}

one_header() {
	cat Makefile.am ./*/*.am | grep -E '(^|_)HEADERS[[:space:]]*\+?=' |
		only '^include_HEADERS =$' '^include_HEADERS \+= %D%/gpubroker\.h$' &&
		grep -q 'include_HEADERS += %D%/gpubroker\.h$' client/client.am
}

header_alone() {
	includes client/gpubroker.h | only ': <std[a-z]+\.h>'
}

# A kind of fact that facts.awk or nm never gives would let its rules pass.
sees() {
	for kind in include declares private function lines object defines needs calls; do
		[ "$(grep -c "^$kind " "$facts")" -ge 50 ] || {
			echo "hardly a fact of kind '$kind'; are sources and objects where they are looked for?"
			return 1
		}
	done
}

# Each line belongs to an existing rule; those of english_ belong to english.t.
list_is_true() {
	[ ! -e "$exceptions" ] || {
		names=$(echo $rules private_names | tr ' ' '|')
		sort -uc "$exceptions" && ! grep -vE "^($names|english_[a-z_]+): [^ ]+ -> .+" "$exceptions"
	}
}

# The plan is one of floors: nothing that a room may use may use that room.
plan_has_no_circle() {
	circle=$(floor_plan | awk '$0 !~ /^#/ { for (i = 2; i <= NF; i++) print $1, $i }' | awk -f "$house/circles.awk")
	[ -z "$circle" ] || {
		echo "$circle"
		return 1
	}
}

# A line too many in the list fails, and so does one too few.
list_can_fail() (
	exceptions=$dir/list
	echo 'planted: a -> b' >"$exceptions"
	echo 'a -> b' | judged planted && ! printf 'a -> b\na -> c\n' | judged planted && ! judged planted </dev/null
)

rule_holds() {
	rule_$1 >"$dir/faults" && judged "$1" <"$dir/faults"
}

title() {
	case $1 in
	room) echo "every folder is in the floor plan" ;;
	include) echo "no file includes what the floor plan puts above it" ;;
	include_circle) echo "headers do not include each other in a circle" ;;
	call) echo "no file calls what the floor plan puts above it" ;;
	call_circle) echo "files do not call each other in a circle" ;;
	own_header) echo "a source includes its own header first" ;;
	no_header) echo "a source has a header of its name, or is listed" ;;
	no_source) echo "a header has a source of its name, or is listed" ;;
	declared) echo "what a header declares is defined by its source" ;;
	name) echo "struct core is core.c's and daemon.c's; struct daemon and void *owner are nobody's" ;;
	library) echo "libseccomp, libcap-ng, Landlock, libudev, libnl, libevent and json-c are used where they belong" ;;
	pure) echo "brokerd/state/ and policy/ call nothing that does I/O" ;;
	long_file) echo "no source has more than $most_lines lines" ;;
	long_function) echo "no function has more than $most_of_function lines" ;;
	wide) echo "no line has more than $most_columns columns" ;;
	unread) echo "every source is built, and was understood" ;;
	listed) echo "what this test lists by name is there" ;;
	esac
}

tap_ok "sources and objects are read" gather
[ -e "$facts" ] || tap_done
tap_ok "and hold facts of every kind" sees
tap_ok "the floor plan itself has no circle" plan_has_no_circle
tap_ok "the planted faults are compiled and read" plant
for rule in $rules; do
	tap_ok "$(title $rule)" rule_holds $rule
	tap_ok "and a planted fault is found ($rule)" finds $rule
done
echo "# private names in several files: $(private_names | wc -l | tr -d ' ')"
tap_ok "at most $most_private_names private names are in several files" few_private_names
tap_ok "and a planted one is counted" finds_private_names
tap_ok "the list of exceptions is sorted and of this test" list_is_true
tap_ok "and a fault without its line fails, and a line without its fault" list_can_fail
tap_ok "includes are written \"dir/file.h\"" written_out
tap_ok "and name files that are there" there
tap_ok "the command includes client/gpubroker.h" command_uses_library
tap_ok "client/gpubroker.h is the only header that is installed" one_header
tap_ok "and needs nothing but the C library" header_alone
tap_done
