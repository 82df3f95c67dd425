# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# Completion of gpubroker(1) in bash, with bash-completion: `gpubroker __complete` says what may stand next.

# _gpubroker_offset N: the index in COMP_WORDS of words[N]; bash breaks words at colons, which addresses have.
_gpubroker_offset() {
	local i j=0 joined
	for ((i = 0; i < $1; i++)); do
		joined=${COMP_WORDS[j++]}
		while [[ $joined != "${words[i]}" && j -lt ${#COMP_WORDS[@]} ]]; do
			joined+=${COMP_WORDS[j++]}
		done
	done
	echo "$j"
}

_gpubroker() {
	local cur words cword word
	_get_comp_words_by_ref -n := cur words cword || return
	COMPREPLY=()
	while IFS=$'\t' read -r word _; do
		case $word in
		:file)
			_filedir
			return
			;;
		:directory)
			_filedir -d
			return
			;;
		:command\ *)
			_command_offset "$(_gpubroker_offset "${word#* }")"
			return
			;;
		*) COMPREPLY+=("$word") ;;
		esac
	done < <("${words[0]}" __complete "${words[@]:1:cword}" 2>/dev/null)
	__ltrim_colon_completions "$cur"
}
complete -F _gpubroker gpubroker
