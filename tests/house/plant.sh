# shellcheck shell=sh disable=SC2154,SC2046 # $dir is layers.t's
# Sourced by layers.t: files with one fault for each thing that its rules look for, and some that are right and
# look almost like a fault. They are read, and where it matters compiled, beside the tree's own.

# Each fault that is planted below, as its rule has to report it.
planted_faults() {
	cat <<-'LIST'
		room: brokerd/planted/room.h -> no room of the plan
		include: brokerd/state/planted.c -> brokerd/peer/planted.h
		include: client/host/planted.h -> client/wire/planted.h
		include: client/common/planted.h -> policy/planted.h
		include: client/command/planted.h -> client/wire/planted.h
		include: client/run/planted.h -> client/command/planted.h
		include: client/library/planted.h -> brokerd/peer/planted.h
		include: brokerd/peer/planted.h -> brokerd/helper/planted.h
		include_circle: brokerd/state/ring-a.h -> brokerd/state/ring-b.h
		include_circle: brokerd/state/ring-b.h -> brokerd/state/ring-a.h
		call: brokerd/state/planted.c -> brokerd/peer/planted.c
		call: client/command/planted.c -> client/library/planted.c
		call_circle: brokerd/state/planted.c -> brokerd/peer/planted.c
		call_circle: brokerd/peer/planted.c -> brokerd/state/planted.c
		own_header: brokerd/state/planted.c -> brokerd/state/planted.h is not the first
		no_header: brokerd/state/ring.c -> no header
		no_source: brokerd/state/ring-a.h -> no source
		declared: brokerd/peer/planted.h -> brokerd/state/planted.c
		declared: brokerd/state/planted.h -> planted_nowhere is nowhere
		name: brokerd/state/planted.c -> struct core
		name: brokerd/state/planted.c -> struct daemon
		name: brokerd/state/planted.c -> void *owner
		library: brokerd/state/planted.c -> libseccomp
		library: brokerd/state/ring.c -> libcap-ng
		library: brokerd/state/ring.c -> Landlock
		library: brokerd/state/ring.c -> libudev
		library: brokerd/state/ring.c -> libnl
		library: brokerd/state/ring.c -> libevent
		library: brokerd/state/planted.c -> libevent
		library: brokerd/state/ring.c -> json-c
		pure: brokerd/state/planted.c -> open
		long_file: brokerd/state/ring.c -> more than 600 lines
		long_function: brokerd/state/planted.c -> planted_long
		wide: brokerd/state/planted.c -> more than 100 columns
		unread: brokerd/state/ring.c -> not built
		unread: brokerd/helper/planted.h -> braces
		listed: brokerd/main.c -> has a header
		listed: policy/lint.c -> is not there
	LIST
}

# These lines are right, but look almost like a fault.
planted_rights() {
	cat <<-'LIST'
		long_function: brokerd/state/planted.c -> planted_not_long
		name: brokerd/state/ring.c -> struct core
		include: brokerd/state/planted.c -> client/gpubroker.h
		include: client/run/planted.h -> client/command/cli.h
		call: client/command/planted.c -> client/gpubroker.h
		pure: brokerd/state/planted.c -> strcmp
		no_source: client/gpubroker.h -> no source
	LIST
}

# repeat N TEXT
repeat() {
	awk -v n="$1" -v text="$2" 'BEGIN { while (n-- > 0) print text }'
}

plant() {
	mkdir "$dir/tree" && cd "$dir/tree" || return 1
	mkdir -p brokerd/planted brokerd/state/.libs brokerd/peer/.libs brokerd/helper client/common client/wire client/host \
		client/library/.libs client/command client/run policy || return 1

	echo '#pragma once' >brokerd/planted/room.h
	echo '#pragma once' | tee brokerd/main.h client/wire/planted.h >policy/planted.h
	echo 'struct planted_helper {' >brokerd/helper/planted.h
	echo '#include "client/wire/planted.h"' >client/host/planted.h
	echo '#include "policy/planted.h"' >client/common/planted.h
	echo '#include "client/wire/planted.h"' >client/command/planted.h
	printf '#include "%s"\n' client/command/planted.h client/command/cli.h >client/run/planted.h
	printf '#include "%s"\n' brokerd/peer/planted.h >client/library/planted.h
	echo '#include "brokerd/state/ring-b.h"' >brokerd/state/ring-a.h
	echo '#include "brokerd/state/ring-a.h"' >brokerd/state/ring-b.h

	# Is not compiled, and so may include what is not installed.
	{
		printf '#include <%s>\n' cap-ng.h linux/landlock.h libudev.h netlink/genl/genl.h event2/event.h json-c/json.h
		echo '/* No use of it: struct core. */'
		repeat 600 '/* long */'
	} >brokerd/state/ring.c

	cat >brokerd/peer/planted.h <<-'C'
		#ifdef PLANTED_IS_READ_AND_NOT_COMPILED
		#include "brokerd/helper/planted.h"
		#endif
		int planted_high(int n);
		int planted_low(const char *text, int n);
	C
	cat >brokerd/state/planted.h <<-'C'
		extern const struct planted *const planted_nowhere[2];
	C
	cat >brokerd/peer/planted.c <<-'C'
		#include "brokerd/peer/planted.h"
		static int planted_private(int n)
		{
			return n + 1;
		}
		int planted_high(int n)
		{
			return planted_low("x", planted_private(n));
		}
	C
	{
		cat <<-'C'
			#include "brokerd/peer/planted.h"
			#include "brokerd/state/planted.h"
			#include "client/gpubroker.h"
			int strcmp(const char *a, const char *b);
			int open(const char *path, int flags, ...);
			int event_add(void *event, const void *time);
			int seccomp_load(void *filter);
			struct core;
			struct daemon;
			struct planted {
				void *owner;
			};
			static int planted_private(int n)
			{
				return n + 2;
			}
			int planted_low(const char *text, int n)
			{
				return strcmp(text, "y") + open(text, 0) + event_add(0, 0) + seccomp_load(0) +
				       planted_high(n) + planted_private(n);
			}
			int planted_not_long(int n)
			{
		C
		repeat 56 '	n++;'
		printf '\treturn n;\n}\nint planted_long(int n)\n{\n'
		repeat 57 '	n++;'
		printf '\treturn n;\n}\n/*%s*/\n' "$(printf '%097d' 0)"
	} >brokerd/state/planted.c
	# The command reaches around the public header, once; through it, it may.
	cat >client/library/planted.c <<-'C'
		int gpubroker_planted(void);
		int library_planted(void);
		int gpubroker_planted(void)
		{
			return 1;
		}
		int library_planted(void)
		{
			return 2;
		}
	C
	cat >client/command/planted.c <<-'C'
		int gpubroker_planted(void);
		int library_planted(void);
		int command_planted(void);
		int command_planted(void)
		{
			return gpubroker_planted() + library_planted();
		}
	C
	mkdir include include/client && : >include/client/gpubroker.h
	compile="${CC:-cc} -O0 -I. -Iinclude"
	$compile -c -o brokerd/state/.libs/libbrokerd_la-planted.o brokerd/state/planted.c &&
		$compile -c -o brokerd/peer/.libs/libbrokerd_la-planted.o brokerd/peer/planted.c &&
		$compile -c -o client/library/.libs/libgpubroker_la-planted.o client/library/planted.c &&
		$compile -c -o client/command/gpubroker-planted.o client/command/planted.c || return 1

	sources_facts >"$dir/planted.sources" &&
		find brokerd client -name '*.c' | sort | objects_facts >"$dir/planted.objects" &&
		grep -v '^lines policy/lint\.c ' "$dir/facts.sources" >"$dir/facts.less" &&
		with_calls "$dir/facts.less" "$dir/facts.objects" "$dir/planted.sources" "$dir/planted.objects" \
			>"$dir/planted"
}
