/* SPDX-License-Identifier: MIT */
/*
 * The last leases: a table, and a timeline with a line for each device. The broker gives a user his own, and an
 * administrator everybody's.
 */
import { h, svg, table, duration, moment, empty } from './dom.js';
import { run } from './broker.js';

const DAYS = { '1d': 'day', '7d': 'week', '30d': 'month' };
const COLOURS = 6;

export async function loadHistory(state) {
    const out = await run(['gpubroker', 'usage', '--since', state.since, '--json'], { admin: state.admin });
    return JSON.parse(out).sort((a, b) => b.since - a.since);
}

/* The same user has the same colour in one picture. */
function colours(entries) {
    const of = new Map();
    for (const e of entries)
        if (!of.has(e.user))
            of.set(e.user, of.size % COLOURS);
    return of;
}

/* Ticks at whole hours or days, six to twelve of them. */
function ticks(from, to) {
    const steps = [3600, 2 * 3600, 3 * 3600, 6 * 3600, 12 * 3600, 86400, 2 * 86400, 4 * 86400, 7 * 86400];
    const step = steps.find(s => (to - from) / s <= 8) || steps[steps.length - 1];
    const offset = new Date().getTimezoneOffset() * 60;
    const out = [];
    for (let t = Math.ceil((from - offset) / step) * step + offset; t < to; t += step)
        out.push([t, new Date(t * 1000).toLocaleString([], step >= 86400 ? { month: 'short', day: 'numeric' } : { hour: '2-digit', minute: '2-digit' })]);
    return out;
}

function timeline(entries, from, to) {
    const devices = [...new Set(entries.map(e => e.device))].sort();
    const colour = colours(entries);
    const left = 110, width = 800, row = 26, height = devices.length * row + 28;
    const x = t => left + (Math.max(t, from) - from) / (to - from) * (width - left - 8);
    const picture = svg('svg', { viewBox: `0 0 ${width} ${height}`, class: 'timeline', role: 'img', 'aria-label': `Leases of ${devices.length} devices; the table below has the same` });
    for (const [t, text] of ticks(from, to))
        picture.append(svg('line', { x1: x(t), x2: x(t), y1: 0, y2: height - 22, class: 'tick' }),
                       svg('text', { x: x(t), y: height - 6, 'text-anchor': 'middle' }, text));
    devices.forEach((device, i) => {
        picture.append(svg('text', { x: 0, y: i * row + 17 }, device.replace(/^0000:/, '')),
                       svg('line', { x1: left, x2: width - 8, y1: (i + 1) * row, y2: (i + 1) * row, class: 'line' }));
    });
    for (const e of [...entries].reverse()) {
        const until = e.until ?? to, y = devices.indexOf(e.device) * row + 4;
        const text = `${e.user}: ${e.device}, ${moment(e.since)}, ${duration(e.seconds)}`;
        picture.append(svg('rect', { x: x(e.since), y, width: Math.max(2, x(until) - x(e.since)), height: row - 8, rx: 3, class: `user${colour.get(e.user)}` + (e.until === null ? ' running' : '') },
                           svg('title', null, text)));
    }
    return [h('ul', { class: 'legend' }, [...colour].map(([user, n]) => h('li', null, h('span', { class: `swatch user${n}` }), user))),
            h('div', { class: 'scroll', tabindex: 0, role: 'group', 'aria-label': 'Timeline' }, picture)];
}

export function historyView(state, act) {
    const chooser = h('select', { id: 'since', 'data-key': 'since', onchange: e => act.since(e.target.value) },
                      Object.entries(DAYS).map(([value, text]) => h('option', { value, selected: value === state.since }, `the last ${text}`)));
    const bar = h('p', { class: 'toolbar' }, h('label', { for: 'since' }, 'Leases of '), chooser,
                  h('span', { class: 'hint' }, state.admin ? ' of all users' : ' that were yours; with administrative access, of all users'));
    if (!state.history)
        return [bar, h('p', { role: 'status' }, 'Reads the history …')];
    if (!state.history.length)
        return [bar, empty('No lease in this time', '')];
    const to = Date.now() / 1000, length = parseInt(state.since, 10) * 86400;
    const from = Math.max(to - length, Math.min(...state.history.map(e => e.since)) - 60);
    return [bar, timeline(state.history, from, to),
            table('Leases', ['Lease', 'User', 'Device', 'From', 'Until', 'Duration'], state.history.slice(0, 200).map(e => [
                String(e.lease), e.user, [h('code', null, e.device || ''), e.profile ? ` ${e.profile}` : ''], moment(e.since),
                e.until === null ? 'still' : moment(e.until), duration(e.seconds)])),
            state.history.length > 200 && h('p', { class: 'hint' }, `The latest 200 of ${state.history.length}.`)];
}
