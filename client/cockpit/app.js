/* SPDX-License-Identifier: MIT */
/*
 * The page: its state, its tabs, and when what is read again. It asks the broker, at each event of `gpubroker
 * watch`, and shows what that says; it keeps nothing.
 */
import { h, show, toast, dialog } from './dom.js';
import { run, json, watch } from './broker.js';
import { devicesView, summary } from './devices.js';
import { leasesView, machinesView } from './leases.js';
import { claimDialog, progressDialog, machines, lingers, learnRuntime, stop, forget } from './vm.js';
import { historyView, loadHistory } from './history.js';
import { doctorView, loadDoctor } from './doctor.js';
import { policyView, loadPolicy, revokeDialog } from './admin.js';

const cockpit = window.cockpit;
const state = { devices: [], leases: [], waiting: [], profiles: [], machines: [], me: { id: -1, name: '' }, admin: false,
                lingers: null, all: false, since: '7d', history: null, findings: null, policy: null, policyFile: null };

const tabs = [
    { id: 'devices', text: 'Devices', view: devicesView },
    { id: 'leases', text: 'Leases and queue', view: leasesView },
    { id: 'machines', text: 'Your VMs', view: machinesView },
    { id: 'history', text: 'History', view: historyView, load: async () => { state.history = await loadHistory(state); } },
    { id: 'doctor', text: 'Doctor', view: doctorView, load: async () => { state.findings = await loadDoctor(state); } },
    { id: 'policy', text: 'Policy', view: policyView, load: async () => { state.policy = state.admin ? await loadPolicy(state) : null; } }
];
let current = tabs[0];

/* What the views may ask for. */
const act = {
    claim: what => claimDialog(what, { started: () => refreshSoon() }),
    progress: machine => progressDialog(machine),
    release: (entry, title) => attempt(run(['gpubroker', 'release', String(entry.id)]), `${title}: the holder is asked to give it back.`),
    revoke: revokeDialog,
    admin: (verb, address, title) => {
        const texts = { restore: ['Give to its host driver', 'goes to its host driver'], prepare: ['Prepare', 'goes to VFIO, and no driver of the host uses it then'] };
        dialog(`${texts[verb][0]}: ${title}?`, h('p', null, `${title} ${texts[verb][1]}.`), texts[verb][0], async () => {
            await run(['gpubroker', verb, address], { admin: true });
            refreshSoon();
        });
    },
    stop: machine => attempt(stop(machine), `${machine.name} is stopped.`),
    forget: machine => attempt(forget(machine), null),
    showAll: all => { state.all = all; draw(); },
    since: since => { state.since = since; state.history = null; load(); },
    examine: () => { state.findings = null; load(); },
    policyFile: name => { state.policyFile = name; load(); },
    changed: () => refreshSoon()
};

async function attempt(promise, text) {
    try {
        await promise;
        if (text)
            toast('good', text);
    } catch (ex) {
        toast('bad', ex.message);
    }
    refreshSoon();
}

function problem(ex) {
    const e = document.getElementById('problem');
    e.hidden = !ex;
    e.textContent = ex ? ex.message : '';
}

function draw() {
    const panel = document.getElementById('panel');
    panel.setAttribute('aria-labelledby', `tab-${current.id}`);
    /* Half a text is not drawn over. */
    if (current.id !== 'policy' || !panel.contains(document.activeElement) || !panel.querySelector('textarea'))
        show(panel, current.view(state, act));
    document.getElementById('summary').textContent = summary(state);
    for (const tab of tabs) {
        const e = document.getElementById(`tab-${tab.id}`);
        e.setAttribute('aria-selected', String(tab === current));
        e.tabIndex = tab === current ? 0 : -1;
    }
}

async function load() {
    const tab = current;
    draw();
    if (!tab.load)
        return;
    try {
        await tab.load();
    } catch (ex) {
        toast('bad', ex.message);
    }
    if (tab === current)
        draw();
}

function choose(tab, focus) {
    current = tab;
    cockpit.location.go([tab.id]);
    document.getElementById('panel').replaceChildren();
    load();
    if (focus)
        document.getElementById(`tab-${tab.id}`).focus();
}

function makeTabs() {
    const list = document.getElementById('tabs');
    tabs.forEach((tab, i) => {
        list.append(h('button', { type: 'button', role: 'tab', id: `tab-${tab.id}`, 'aria-controls': 'panel', onclick: () => choose(tab),
                                  onkeydown: event => {
            const to = { ArrowRight: i + 1, ArrowLeft: i - 1, Home: 0, End: tabs.length - 1 }[event.key];
            if (to !== undefined) {
                event.preventDefault();
                choose(tabs[(to + tabs.length) % tabs.length], true);
            }
        } }, tab.text));
    });
}

let reading = false, again = false, last = '';
/* Reads all anew. Events come in bursts: what comes while it reads is one more reading. */
async function refresh() {
    if (reading) {
        again = true;
        return;
    }
    let changed = true;
    reading = true;
    try {
        const [devices, leases, waiting, profiles] = await Promise.all([
            json('list', '--all'), json('leases'), json('leases', '--waiting'), json('profiles')]);
        const read = { devices, leases, waiting, profiles, machines: await machines().catch(() => []) };
        /* What is the same is not drawn anew: somebody may be about to press a button of it. */
        const text = JSON.stringify(read);
        changed = text !== last;
        last = text;
        Object.assign(state, read);
        problem(null);
    } catch (ex) {
        problem(ex);
    }
    reading = false;
    document.body.dataset.ready = 'yes';
    if (changed)
        draw();
    if (again) {
        again = false;
        refreshSoon();
    }
}

let timer = null;
function refreshSoon() {
    if (!timer)
        timer = setTimeout(() => { timer = null; refresh(); }, 150);
}

/* As Cockpit's own pages: its shell keeps the user's choice. */
function followTheme() {
    const dark = window.matchMedia('(prefers-color-scheme: dark)');
    const set = style => {
        style = style || localStorage.getItem('shell:style') || 'auto';
        document.documentElement.classList.toggle('dark', style === 'dark' || (style === 'auto' && dark.matches));
    };
    window.addEventListener('storage', event => { if (event.key === 'shell:style') set(); });
    window.addEventListener('cockpit-style', event => set(event.detail.style));
    dark.addEventListener('change', () => set());
    set();
}

async function main() {
    followTheme();
    makeTabs();
    state.me = await cockpit.user();
    await learnRuntime();
    const wanted = tabs.find(tab => tab.id === cockpit.location.path[0]);
    if (wanted)
        current = wanted;
    cockpit.addEventListener('locationchanged', () => {
        const tab = tabs.find(t => t.id === cockpit.location.path[0]) || tabs[0];
        if (tab !== current)
            choose(tab);
    });
    const admin = cockpit.permission({ admin: true });
    const learn = () => {
        const allowed = Boolean(admin.allowed);
        if (allowed !== state.admin) {
            state.admin = allowed;
            state.history = state.policy = null;
            load();
        }
    };
    admin.addEventListener('changed', learn);
    learn();
    draw();
    await refresh();
    load();
    state.lingers = await lingers(state.me.name);
    watch(() => refreshSoon(), ex => { problem(ex); if (!ex) refreshSoon(); });
    setInterval(draw, 30000); /* "since" grows */
}

main().catch(problem);
