#!/bin/bash
# The completion of each shell passes on what `gpubroker __complete` offers. Each shell runs as it is installed, with
# its own libraries; a shell that is not installed is skipped.
# shellcheck disable=SC2317 # functions are called by name, through tap_ok

# shellcheck source=tests/tap.sh
. "$(dirname "$0")/tap.sh"
top=$(cd "$top_srcdir" && pwd) || exit 99
PATH=$(cd "$top_builddir/client" && pwd):$PATH
dir=$(mktemp -d) || exit 99
trap 'rm -rf "$dir"' EXIT
: >"$dir/one.policy"

# by_bash LINE: what bash offers for the line, a word a line.
by_bash() {
	bash --norc -c '
		. /usr/share/bash-completion/bash_completion
		. "$0/client/completion/gpubroker.bash"
		COMP_LINE=$1 COMP_POINT=${#1}
		# Bash breaks words at colons.
		read -ra COMP_WORDS <<<"${1//:/ : }"
		[[ $1 != *" " ]] || COMP_WORDS+=("")
		COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
		_gpubroker 2>/dev/null
		printf "%s\n" "${COMPREPLY[@]}"' "$top" "$1"
}
by_fish() {
	fish --no-config -c "source $top/client/completion/gpubroker.fish; complete -C '$1'" | cut -f1
}
# Zsh completes only at its own prompt, on a terminal: the line as it stands there after a tab. It reads what is typed
# ahead in order, and ends by itself.
cat >"$dir/z" <<'ZSH'
zmodload zsh/zpty
zpty z zsh -f -i
zpty -w z "PS1=; fpath=($1/client/completion \$fpath); autoload -U compinit; compinit -u -D"
zpty -w -n z "$2"$'\t\n'
zpty -w z exit
while zpty -r z out; do print -rn -- $out; done
ZSH
by_zsh() {
	timeout 30 zsh -f "$dir/z" "$top" "$1" </dev/null | tr -d '\r' | sed 's/\x1b\[[0-9;?]*[a-zA-Z]//g' | tr ' ' '\n'
}

# completes SHELL LINE WORD: the shell offers the word for the line.
completes() {
	"by_$1" "$2" >"$dir/got"
	grep -qxF -- "$3" "$dir/got" || {
		cat "$dir/got"
		return 1
	}
}

for shell in bash fish zsh; do
	if ! command -v $shell >/dev/null || { [ $shell = bash ] && [ ! -e /usr/share/bash-completion/bash_completion ]; }; then
		tap_skip "$shell completes" "$shell with its completion is not installed"
		continue
	fi
	tap_ok "$shell completes a command" completes $shell "gpubroker li" list
	tap_ok "$shell completes an option" completes $shell "gpubroker run --gpu 0000:01:00.0 --q" --qemu
	tap_ok "$shell completes a file of its own" completes $shell "gpubroker policy check $dir/o" "$dir/one.policy"
	tap_ok "$shell completes the COMMAND behind an address" completes $shell "gpubroker run --gpu 0000:01:00.0 -- gpubroke" gpubroker
done
tap_done
