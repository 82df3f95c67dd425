# SPDX-License-Identifier: MIT
# Completion of gpubroker(1) in fish: `gpubroker __complete` says what may stand next.

function __gpubroker_complete
    set -l words (commandline -opc)
    set -l last (commandline -ct)
    for line in ($words[1] __complete $words[2..-1] "$last" 2>/dev/null)
        switch $line
            case ':file'
                __fish_complete_path "$last"
            case ':directory'
                __fish_complete_directories "$last"
            case ':command *'
                set -l from (math (string split ' ' $line)[2] + 1)
                complete -C (string join ' ' -- (string escape -- $words[$from..-1]) "$last")
            case '*'
                printf '%s\n' $line
        end
    end
end

complete -c gpubroker -f -a '(__gpubroker_complete)'
