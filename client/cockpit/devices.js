/* SPDX-License-Identifier: MIT */
/*
 * The cards: functions of a slot together, with their VFs and profiles below. Decides which button a card has;
 * the broker decides whether that works.
 */
import { h, label, button, ago, moment, duration, empty } from './dom.js';
import { userName } from './broker.js';

const states = {
    'available': ['good', 'Free'],
    'vfio-ready': ['good', 'Free, prepared'],
    'boot-vga': ['quiet', 'Shows the console'],
    'leased': ['info', 'In use'],
    'releasing': ['warn', 'Going back'],
    'stuck': ['bad', 'Stuck'],
    'not-viable': ['quiet', 'Cannot be lent'],
    'allotted': ['info', 'Allotted']
};

export const isGpu = device => device.class && device.class.replace(/^0x/, '').startsWith('03');
const slotOf = address => address.replace(/\.[0-7]$/, '');
export const nameOf = d => d.model || `${d.vendor}:${d.device}`;

/* [{ slot, functions, vfs, profiles, lease }]: one entry a card, in the order of the addresses. */
export function cardsOf(state, all) {
    const cards = new Map();
    for (const d of state.devices) {
        if (d.physfn)
            continue;
        const slot = slotOf(d.address);
        if (!cards.has(slot))
            cards.set(slot, { slot, functions: [], vfs: [], profiles: [] });
        cards.get(slot).functions.push(d);
    }
    for (const d of state.devices) {
        const card = d.physfn && cards.get(slotOf(d.physfn));
        if (card)
            card.vfs.push(d);
    }
    for (const p of state.profiles) {
        const card = cards.get(slotOf(p.physical_function || p.device));
        if (card)
            card.profiles.push(p);
    }
    return [...cards.values()].filter(card =>
        card.functions.some(d => all ? !d.bridge : isGpu(d)) || card.profiles.length);
}

/* The function that a card is called after: its display, or its first. */
export const mainOf = card => card.functions.find(isGpu) || card.functions[0];

export function statusLabel(d) {
    const [kind, text] = states[d.status] || ['quiet', d.status];
    return label(kind, text);
}

const leaseOf = (state, d) => state.leases.find(l => l.devices.includes(d.address) || (d.lease && l.id === d.lease));

/* What the table of the functions says of one: why it is not free comes from the broker. */
function functionRow(d) {
    return h('tr', null,
             h('th', { scope: 'row', 'data-column': 'Address' }, h('code', null, d.address)),
             h('td', { 'data-column': 'Name' }, h('span', null, nameOf(d))),
             h('td', { 'data-column': 'Driver' }, h('span', null, d.driver || 'none')),
             h('td', { 'data-column': 'IOMMU group' }, h('span', null, d.iommu_group === null ? 'none' : String(d.iommu_group))),
             h('td', { 'data-column': 'Status' }, h('span', null, statusLabel(d), d.in_use ? ` used by the host: ${d.in_use}` : '')));
}

function functions(title, devices) {
    return [h('h4', null, title),
            h('table', { class: 'functions' },
              h('thead', null, h('tr', null, ['Address', 'Name', 'Driver', 'IOMMU group', 'Status'].map(c => h('th', { scope: 'col' }, c)))),
              h('tbody', null, devices.map(functionRow)))];
}

function size(bytes) {
    const gib = bytes / 2 ** 30;
    return gib >= 1 ? `${Number(gib.toFixed(1))} GiB` : `${Math.round(bytes / 2 ** 20)} MiB`;
}

function profiles(card, act) {
    if (!card.profiles.length)
        return null;
    return [h('h4', null, 'Profiles'),
            h('ul', { class: 'profiles' }, card.profiles.map(p => {
                const left = p.available === null ? 'not known how many are left' : `${p.available} left`;
                return h('li', null, h('strong', null, p.name || p.type), ' ', h('code', null, p.type),
                         p.memory ? ` ${size(p.memory)}` : '', `, ${left} `,
                         p.available !== 0 && button('Start a VM', () => act.claim({ device: p.device, profile: p.type, name: p.name || p.type }),
                                                     { class: 'link', 'data-key': `p-${p.device}-${p.type}`,
                                                       'aria-label': `Start a VM with ${p.name || p.type} of ${p.device}` }));
            }))];
}

/* One sentence: who has it since when, or whether the user may. */
function sentence(state, d, lease) {
    if (lease) {
        const mine = lease.uid === state.me.id;
        const text = [mine ? 'You have it' : `${userName(lease.user, lease.uid)} has it`, ` since ${moment(lease.since)} (${ago(lease.since)})`];
        if (lease.expires)
            text.push(`, until ${moment(lease.expires)}`);
        text.push('.');
        if (lease.reason)
            text.push(' ', lease.reason);
        return text;
    }
    if (d.allotment)
        return [d.allotted_uid === state.me.id ? 'It is allotted to you' : `It is allotted to ${userName(d.allotted_user, d.allotted_uid)}`, ` (${d.allotment}).`];
    if (d.status === 'available' || d.status === 'vfio-ready')
        return [d.allowed ? 'You may claim it.' : 'No rule lets you claim it.'];
    if (d.iommu_group === null)
        return ['The IOMMU does not cover it.'];
    return [d.in_use ? `The host uses it: ${d.in_use}.` : d.status === 'boot-vga' ? 'The console of the host is on it.' : ''];
}

function actions(state, d, lease, act) {
    const out = [], title = `${nameOf(d)} (${d.address})`;
    if (lease) {
        if (lease.uid === state.me.id)
            out.push(button('Give back', () => act.release(lease, title), { 'data-key': `release-${d.address}`, 'aria-label': `Give back ${title}` }));
        else if (d.allowed)
            out.push(button('Wait for it', () => act.claim({ device: d.address, name: nameOf(d), wait: true }),
                            { 'data-key': `claim-${d.address}`, 'aria-label': `Wait for ${title}` }));
        if (state.admin)
            out.push(button('Revoke', () => act.revoke(lease, title), { class: 'danger', 'data-key': `revoke-${d.address}`, 'aria-label': `Revoke ${title}` }));
        return out;
    }
    if (d.allowed && (d.status === 'available' || d.status === 'vfio-ready'))
        out.push(button('Start a VM', () => act.claim({ device: d.address, name: nameOf(d) }),
                        { class: 'primary', 'data-key': `claim-${d.address}`, 'aria-label': `Start a VM with ${title}` }));
    if (state.admin && d.status === 'vfio-ready')
        out.push(button('Give to host driver', () => act.admin('restore', d.address, title), { 'data-key': `restore-${d.address}`, 'aria-label': `Give ${title} back to its host driver` }));
    if (state.admin && d.status === 'available')
        out.push(button('Prepare', () => act.admin('prepare', d.address, title), { 'data-key': `prepare-${d.address}`, 'aria-label': `Put ${title} on VFIO` }));
    return out;
}

const counted = (n, what) => `${n} ${what}${n === 1 ? '' : 's'}`;

function cardView(state, card, act) {
    const d = mainOf(card), lease = leaseOf(state, d);
    const id = `card-${card.slot.replace(/[^0-9a-f]/g, '-')}`;
    const more = card.functions.length + card.vfs.length;
    const left = lease && lease.expires && lease.expires - Date.now() / 1000;
    return h('li', null, h('section', { class: 'card ' + (states[d.status] || ['quiet'])[0], 'aria-labelledby': id },
             h('div', { class: 'head' },
               h('h3', { id }, nameOf(d)),
               statusLabel(d)),
             h('p', { class: 'where' }, h('code', null, d.address), d.vendor_name ? ` ${d.vendor_name}` : '', d.driver ? `, driver ${d.driver}` : ''),
             h('p', null, sentence(state, d, lease)),
             left > 0 && h('p', null, h('meter', { min: 0, max: lease.expires - lease.since, value: left, 'aria-label': 'Time left' }), ` ${duration(left)} left`),
             h('div', { class: 'actions' }, actions(state, d, lease, act)),
             h('details', { 'data-key': `details-${card.slot}` },
               h('summary', { 'data-key': `summary-${card.slot}` },
                 counted(more, 'function') + (card.profiles.length ? `, ${counted(card.profiles.length, 'profile')}` : '')),
               functions('Functions', card.functions),
               card.vfs.length ? functions('Virtual functions', card.vfs) : null,
               profiles(card, act))));
}

export function devicesView(state, act) {
    const cards = cardsOf(state, state.all);
    const all = h('input', { type: 'checkbox', id: 'all', 'data-key': 'all', onchange: e => act.showAll(e.target.checked) });
    all.checked = state.all;
    return [
        h('p', { class: 'toolbar' }, all, h('label', { for: 'all' }, 'All devices, not GPUs alone')),
        cards.length ? h('ul', { class: 'cards' }, cards.map(card => cardView(state, card, act)))
            : empty('There is no GPU here', 'This host has no display device that the kernel has put into an IOMMU group. "Doctor" says why.')
    ];
}

/* "3 GPUs: 1 free, 2 in use". */
export function summary(state) {
    const cards = cardsOf(state, false).filter(card => card.functions.some(isGpu));
    const counts = new Map();
    for (const card of cards) {
        const text = (states[mainOf(card).status] || ['', mainOf(card).status])[1].toLowerCase();
        counts.set(text, (counts.get(text) || 0) + 1);
    }
    return counted(cards.length, 'GPU') +
        (cards.length ? ': ' + [...counts].map(([text, n]) => `${n} ${text}`).join(' · ') : '');
}
