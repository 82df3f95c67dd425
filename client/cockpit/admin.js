/* SPDX-License-Identifier: MIT */
/*
 * What takes administrative access: the policy's text, with what it would do beside it, and the end of others'
 * leases. All of it is the command's work, run by Cockpit as root; a text is in force when the broker says so.
 */
import { h, field, dialog, button, label, toast } from './dom.js';
import { run } from './broker.js';

const cockpit = window.cockpit;
const DIR = '/etc/gpubroker/policy.d';

export function revokeDialog(lease, title) {
    const after = h('input', { type: 'text', value: '5m', size: 6, autocomplete: 'off' });
    const kill = h('input', { type: 'checkbox' });
    const grace = h('input', { type: 'text', value: '30s', size: 6, autocomplete: 'off' });
    dialog(`Revoke ${title}`, [
        h('p', null, 'The holder is told now, and asked for the device after that time. The device goes back when the last of its descriptors is closed.'),
        field('After', after, 'As 30s, 5m or 1h; 0s for at once.'),
        field('End its processes if they do not let go', kill),
        field('Between SIGTERM and SIGKILL', grace)
    ], 'Revoke', async () => {
        const argv = ['gpubroker', 'revoke', String(lease.id)];
        if (after.value && !/^0s?$/.test(after.value))
            argv.push('--after', after.value);
        if (kill.checked)
            argv.push(`--kill=${grace.value || '30s'}`);
        await run(argv, { admin: true });
        toast('good', `${title} is revoked.`);
    }, true);
}

export async function loadPolicy(state) {
    const out = await run(['find', DIR, '-maxdepth', '1', '-type', 'f', '-name', '*.policy', '-printf', '%f\\n'], { admin: true }).catch(() => '');
    const names = out.split('\n').filter(name => name).sort();
    const name = names.includes(state.policyFile) ? state.policyFile : names[0] || 'local.policy';
    return new Promise((resolve, reject) => {
        cockpit.file(`${DIR}/${name}`, { superuser: 'require' }).read()
            .then((content, tag) => resolve({ names, name, content: content || '', tag }), reject);
    });
}

/* Says what `policy check` has for the text, of which the broker has not heard. */
async function check(name, content) {
    const dir = (await run(['mktemp', '-d', '/run/gpubroker-check.XXXXXX'], { admin: true })).trim();
    try {
        await run(['sh', '-c', 'cp -p "$1"/*.policy "$0"/ 2>/dev/null; cat >"$0/$2"; chmod 644 "$0/$2"', dir, DIR, name], { admin: true, input: content });
        return (await run(['gpubroker', 'policy', 'check', '--policy', dir], { admin: true })).replaceAll(dir, DIR) || 'No mistake.';
    } catch (ex) {
        throw new Error(((ex.output || '') + ex.message).replaceAll(dir, DIR));
    } finally {
        await run(['rm', '-r', '--', dir], { admin: true });
    }
}

/* The text of one file as somebody has changed it, and what it was made of: `base`, which the file's `tag` names. */
let draft = null;

/* Saves the draft, unless somebody else has changed the file meanwhile. */
async function save() {
    if (draft.base.includes('\uFFFD'))
        throw new Error(`${draft.name} has bytes that are no UTF-8, which this page would change: edit it in a terminal.`);
    try {
        draft.tag = await cockpit.file(`${DIR}/${draft.name}`, { superuser: 'require' }).replace(draft.content, draft.tag);
    } catch (ex) {
        if (ex.problem !== 'change-conflict')
            throw ex;
        throw new Error(`Somebody else has changed ${draft.name} meanwhile, so it was not saved. Keep your text elsewhere, and load this page anew.`);
    }
    draft.base = draft.content;
}

export function policyView(state, act) {
    if (!state.admin)
        return h('p', null, 'The policy says who may claim what. To see and change it takes administrative access: switch it on at the top of the page.');
    if (!state.policy)
        return h('p', { role: 'status' }, 'Reads the policy …');
    const { names, name, content, tag } = state.policy;
    if (!draft || draft.name !== name || draft.content === draft.base)
        draft = { name, content, base: content, tag };
    const text = h('textarea', { id: 'policy-text', rows: 16, spellcheck: 'false', 'data-key': 'policy-text', 'aria-label': `Text of ${name}`, value: draft.content,
                                 oninput: e => { draft.content = e.target.value; } });
    const verdict = h('pre', { class: 'verdict', role: 'status' }, '');
    const say = (kind, words) => { verdict.className = `verdict ${kind}`; verdict.textContent = words; };
    const attempt = action => async () => {
        try {
            say('good', await action());
        } catch (ex) {
            say('bad', ex.message);
        }
    };
    const file = h('select', { 'data-key': 'policy-file', onchange: e => act.policyFile(e.target.value) },
                   (names.includes(name) ? names : [...names, name]).map(n => h('option', { value: n, selected: n === name }, n)));
    const user = h('input', { type: 'text', value: state.me.name, autocomplete: 'off', 'data-key': 'explain-user' });
    const device = h('input', { type: 'text', list: 'devices', autocomplete: 'off', 'data-key': 'explain-device', value: (state.devices.find(d => d.allowed) || state.devices[0] || {}).address || '' });
    return h('div', { class: 'policy' },
             h('section', { 'aria-label': 'Policy' },
               field('File', file), text,
               h('div', { class: 'actions' },
                 button('Check', attempt(() => check(name, text.value)), { 'data-key': 'policy-check' }),
                 button('Save and load', attempt(async () => {
                     await check(name, text.value);
                     draft.content = text.value;
                     await save();
                     await run(['chmod', '644', `${DIR}/${name}`], { admin: true });
                     const said = await run(['gpubroker', 'policy', 'reload'], { admin: true });
                     act.changed();
                     return said || 'The policy is in force.';
                 }), { class: 'primary', 'data-key': 'policy-save' })),
               verdict),
             h('section', { 'aria-label': 'Explain' },
               h('h2', null, 'May somebody have a device?'),
               h('p', { class: 'hint' }, 'By the policy that is saved.'),
               field('User', user), field('Device', device),
               h('datalist', { id: 'devices' }, state.devices.map(d => h('option', { value: d.address }, d.model || ''))),
               h('div', { class: 'actions' }, button('Explain', attempt(() => run(['gpubroker', 'policy', 'explain', '--user', user.value, device.value], { admin: true })), { 'data-key': 'explain' })),
               h('h2', null, 'Prepared devices'),
               prepared(state, act)));
}

function prepared(state, act) {
    const ready = state.devices.filter(d => d.status === 'vfio-ready');
    if (!ready.length)
        return h('p', null, 'No device is on VFIO in advance.');
    return h('ul', null, ready.map(d => h('li', null, h('code', null, d.address), ` ${d.model || ''} `, label('good', d.driver || ''), ' ',
        button('Give to host driver', () => act.admin('restore', d.address, d.address), { class: 'link', 'data-key': `prepared-${d.address}` }))));
}
