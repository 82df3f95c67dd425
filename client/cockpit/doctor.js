/* SPDX-License-Identifier: MIT */
/* What `gpubroker doctor` finds on this host, what fails first. */
import { h, label, table, button } from './dom.js';
import { run } from './broker.js';

const kinds = { FAIL: 'bad', WARN: 'warn', PASS: 'good', NOTE: 'info' };

/* doctor ends with 1 if a check fails, and has said which. */
export async function loadDoctor(state) {
    try {
        return JSON.parse(await run(['gpubroker', 'doctor', '--json'], { admin: false }));
    } catch (ex) {
        if (ex.output)
            return JSON.parse(ex.output);
        throw ex;
    }
}

export function doctorView(state, act) {
    const bar = h('p', { class: 'toolbar' }, button('Check again', act.examine, { 'data-key': 'examine' }));
    if (!state.findings)
        return [bar, h('p', { role: 'status' }, 'Examines this host …')];
    const order = { FAIL: 0, WARN: 1, NOTE: 2, PASS: 3 };
    const found = [...state.findings].sort((a, b) => (order[a.result] ?? 4) - (order[b.result] ?? 4));
    const count = result => found.filter(f => f.result === result).length;
    return [bar,
            h('p', null, `${count('FAIL')} failed, ${count('WARN')} warnings, ${count('PASS')} passed.`),
            table('What stands between this host and a GPU in a VM', ['Check', 'Result', 'What was found'], found.map(f => [
                f.check, label(kinds[f.result] || 'quiet', f.result),
                [f.text, f.cure ? h('span', { class: 'cure' }, f.cure) : null]]))];
}
