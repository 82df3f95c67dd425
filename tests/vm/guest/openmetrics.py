#!/usr/bin/env python3
"""Reads OpenMetrics text from standard input and checks it against the grammar of OpenMetrics 1.0, as far as gauges,
counters and infos need it. Prints each fault; with names of samples as arguments, prints their values instead."""
import re
import sys

NAME = r'[a-zA-Z_:][a-zA-Z0-9_:]*'
LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*"'
SAMPLE = re.compile(rf'({NAME})(\{{(?:{LABEL}(?:,{LABEL})*)?\}})? (-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|NaN|[+-]Inf)')
META = re.compile(rf'# (TYPE|UNIT|HELP) ({NAME}) (.*)')
SUFFIXES = {'gauge': [''], 'counter': ['_total', '_created'], 'info': ['_info'], 'unknown': ['']}


def check(text):
    """The faults of a text, and its samples."""
    faults, samples, types, families = [], {}, {}, []
    if not text.endswith('# EOF\n'):
        faults.append('does not end with # EOF and a newline')
    lines = text.split('\n')[:-1]
    for n, line in enumerate(lines, 1):
        if line == '# EOF':
            if n != len(lines):
                faults.append(f'{n}: # EOF before the end')
            continue
        meta, sample = META.fullmatch(line), SAMPLE.fullmatch(line)
        if meta:
            kind, name, rest = meta.groups()
            if not families or families[-1] != name:
                if name in families:
                    faults.append(f'{n}: {name} comes twice')
                families.append(name)
                types[name] = 'unknown'
            if any(key[0] == name for key in samples):
                faults.append(f'{n}: {kind} of {name} after its samples')
            if kind == 'TYPE':
                types[name] = rest
                if rest not in SUFFIXES:
                    faults.append(f'{n}: no type {rest}')
            if kind == 'UNIT' and rest and not name.endswith('_' + rest):
                faults.append(f'{n}: {name} does not end with its unit')
            if kind == 'HELP' and re.search(r'\\[^\\n"]|\\$', rest):
                faults.append(f'{n}: an escape that is none')
        elif sample:
            name, labels, value = sample.groups()
            family = families[-1] if families else ''
            if name not in [family + s for s in SUFFIXES.get(types.get(family), [])]:
                faults.append(f'{n}: {name} is no sample of {family or "any family"}')
            if types.get(family) in ('counter', 'info') and not name.endswith('_created') and value.startswith('-'):
                faults.append(f'{n}: a counter below 0')
            if types.get(family) == 'info' and value != '1':
                faults.append(f'{n}: an info is 1')
            names = re.findall(r'([a-zA-Z_]\w*)="(?:[^"\\]|\\.)*"', labels or '')
            if len(names) != len(set(names)):
                faults.append(f'{n}: a label twice')
            key = (family, name + (labels or ''))
            if key in samples:
                faults.append(f'{n}: {key[1]} comes twice')
            samples[key] = value
        else:
            faults.append(f'{n}: {line!r} is nothing')
    return faults, {key[1]: value for key, value in samples.items()}


def main():
    text = sys.stdin.buffer.read().decode('utf-8', 'strict')
    faults, samples = check(text)
    if len(sys.argv) > 1:
        print(*[samples.get(name, '-') for name in sys.argv[1:]])
        return 0
    for fault in faults:
        print(fault)
    return 1 if faults else 0


if __name__ == '__main__':
    sys.exit(main())
