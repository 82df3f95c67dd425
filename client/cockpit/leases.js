/* SPDX-License-Identifier: MIT */
/*
 * Who has what, who waits for what with which place, and the user's own machines.
 */
import { h, label, button, ago, moment, table, empty } from './dom.js';
import { userName } from './broker.js';

const kinds = { leased: 'info', claiming: 'info', releasing: 'warn', asked: 'warn', stuck: 'bad' };

const mine = (state, entry) => entry.uid === state.me.id;

function leaseRow(state, lease, act) {
    const title = lease.devices[0] || `lease ${lease.id}`;
    return [
        String(lease.id),
        [mine(state, lease) ? h('strong', null, `${userName(lease.user, lease.uid)} (you)`) : userName(lease.user, lease.uid)],
        [lease.devices.map(d => h('code', null, d, ' ')), lease.profile || ''],
        [label(kinds[lease.state] || 'quiet', lease.state), lease.reason ? h('span', { class: 'reason' }, ' ', lease.reason) : null],
        `${moment(lease.since)} (${ago(lease.since)})`,
        lease.expires ? moment(lease.expires) : 'no limit',
        h('span', { class: 'actions' },
          mine(state, lease) && button('Give back', () => act.release(lease, title), { 'data-key': `l-release-${lease.id}`, 'aria-label': `Give back ${title}` }),
          state.admin && button('Revoke', () => act.revoke(lease, title), { class: 'danger', 'data-key': `l-revoke-${lease.id}`, 'aria-label': `Revoke lease ${lease.id}` }))
    ];
}

function waitingRow(state, claim, act) {
    const wanted = claim.wanted.map(w => w.device + (w.profile ? ` (${w.profile})` : '')).join(', ');
    return [
        String(claim.place),
        [mine(state, claim) ? h('strong', null, `${userName(claim.user, claim.uid)} (you)`) : userName(claim.user, claim.uid)],
        wanted,
        ago(claim.since),
        claim.ends ? `lease ${claim.lease} ends ${moment(claim.ends)}` : claim.lease ? `lease ${claim.lease}, which has no end` : '',
        h('span', { class: 'actions' },
          mine(state, claim) ? button('Stop waiting', () => act.release(claim, wanted), { 'data-key': `w-${claim.id}`, 'aria-label': `Stop waiting for ${wanted}` })
              : state.admin && button('End', () => act.revoke(claim, wanted), { class: 'danger', 'data-key': `w-${claim.id}`, 'aria-label': `End the claim of ${wanted}` }))
    ];
}

export function leasesView(state, act) {
    const waiting = [...state.waiting].sort((a, b) => a.place - b.place);
    return [
        h('h2', null, 'Leases'),
        state.leases.length ? table('Who has which device', ['Lease', 'User', 'Devices', 'State', 'Since', 'Until', 'Actions'],
                                    state.leases.map(l => leaseRow(state, l, act)))
            : empty('Nothing is lent', 'All devices are with the host.'),
        h('h2', null, 'Queue'),
        waiting.length ? table('Claims that wait', ['Place', 'User', 'Wants', 'Has waited', 'For', 'Actions'],
                               waiting.map(w => waitingRow(state, w, act)))
            : h('p', null, 'No claim waits.')
    ];
}

export function machinesView(state, act) {
    const rows = state.machines.map(m => [
        m.name,
        label(m.active === 'active' ? 'good' : m.active === 'failed' ? 'bad' : 'quiet', m.active === 'active' ? 'running' : m.active),
        h('span', { class: 'actions' },
          button('Progress', () => act.progress(m), { 'data-key': `m-log-${m.name}`, 'aria-label': `Progress of ${m.name}` }),
          m.active === 'active' || m.active === 'activating'
              ? button('Stop', () => act.stop(m), { 'data-key': `m-stop-${m.name}`, 'aria-label': `Stop ${m.name}` })
              : button('Remove', () => act.forget(m), { 'data-key': `m-forget-${m.name}`, 'aria-label': `Remove ${m.name} from this list` }))
    ]);
    return [
        h('h2', null, 'Your VMs'),
        rows.length ? table('VMs that were started here', ['Name', 'State', 'Actions'], rows)
            : empty('No VM was started here', 'Choose "Start a VM" at a GPU.'),
        state.lingers === false && h('p', { class: 'hint' }, 'They end when your last session ends. ',
                                     h('code', null, `loginctl enable-linger ${state.me.name}`), ' lets them go on.')
    ];
}
