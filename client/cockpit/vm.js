/* SPDX-License-Identifier: MIT */
/*
 * A VM with a GPU, as a unit of the user's own service manager: it outlives the page. The steps of its claim are
 * lines that `gpubroker run --progress=json` writes into a file below the user's run-time directory.
 */
import { h, field, dialog, button, moment } from './dom.js';
import { run, sentenceOf } from './broker.js';

const cockpit = window.cockpit;
const PREFIX = 'gpubroker-vm-';

/* A command's words as a shell reads them, without its other powers: quotes and backslashes. */
export function words(line) {
    const out = [];
    let word = null, quote = null;
    for (let i = 0; i < line.length; i++) {
        const c = line[i];
        if (quote) {
            if (c === quote)
                quote = null;
            else if (c === '\\' && quote === '"' && i + 1 < line.length)
                word += line[++i];
            else
                word += c;
        } else if (c === '"' || c === "'") {
            quote = c;
            word ??= '';
        } else if (/\s/.test(c)) {
            if (word !== null)
                out.push(word);
            word = null;
        } else if (c === '\\' && i + 1 < line.length) {
            word = (word ?? '') + line[++i];
        } else {
            word = (word ?? '') + c;
        }
    }
    if (quote)
        throw new Error(`The command has a ${quote} without its second.`);
    if (word !== null)
        out.push(word);
    return out;
}

let runtime = '';
const progressFile = name => `${runtime}/${PREFIX}${name}.progress`;
/* The session's run-time directory; without one there is no service manager of the user's. */
export async function learnRuntime() {
    runtime = (await run(['sh', '-c', 'echo "${XDG_RUNTIME_DIR:-/run/user/$(id -u)}"'])).trim();
    return runtime;
}
const manager = () => ({ environ: [`XDG_RUNTIME_DIR=${runtime}`, `DBUS_SESSION_BUS_ADDRESS=unix:path=${runtime}/bus`] });

export async function machines() {
    const out = await run(['systemctl', '--user', 'list-units', '--all', '--plain', '--no-legend', '--no-pager', '--full', `${PREFIX}*.service`], manager());
    return out.split('\n').filter(line => line.trim()).map(line => {
        const [unit, , active] = line.replace(/^[^a-z]*/, '').split(/\s+/);
        return { unit, active, name: unit.slice(PREFIX.length, -'.service'.length) };
    });
}

export async function lingers(user) {
    try {
        return (await run(['loginctl', 'show-user', '-P', 'Linger', user])).trim() === 'yes';
    } catch (ex) {
        return null; /* nobody knows */
    }
}

export const stop = machine => run(['systemctl', '--user', 'stop', machine.unit], manager());
export async function forget(machine) {
    await run(['systemctl', '--user', 'reset-failed', machine.unit], manager()).catch(() => null);
    await run(['rm', '-f', progressFile(machine.name)]);
}

async function start(name, what, options, command) {
    const argv = ['gpubroker', 'run', '--progress=json,3', '--gpu', what.device], unit = `${PREFIX}${name}.service`;
    if (what.profile)
        argv.push('--profile', what.profile);
    if (options.wait)
        argv.push('--wait');
    argv.push(...(options.qemu ? ['--qemu'] : []), '--', ...command);
    const there = (await machines()).find(m => m.unit === unit);
    if (there && there.active !== 'failed' && there.active !== 'inactive')
        throw new Error(`You have a VM ${name} that has not ended: stop it first, or choose another name.`);
    /* What failed keeps its name until somebody has seen it. */
    if (there)
        await run(['systemctl', '--user', 'reset-failed', unit], manager()).catch(() => null);
    /*
     * The steps of an earlier VM of that name are not this one's: they go before it, which systemd-run waits for. The shell
     * only opens the file of the steps.
     */
    await run(['systemd-run', '--user', '--quiet', `--unit=${PREFIX}${name}`, `--description=VM ${name} with ${what.device}`,
        `--property=ExecStartPre=/bin/rm -f ${progressFile(name)}`, '--',
        '/bin/sh', '-c', 'exec 3>"$0"; exec "$@"', progressFile(name), ...argv], manager());
}

/* The form before it. act.started(name) is called when the unit runs. */
export function claimDialog(what, act) {
    const name = h('input', { type: 'text', value: 'gpu-vm', pattern: '[A-Za-z0-9_.-]{1,40}', required: true, autocomplete: 'off' });
    const memory = h('input', { type: 'text', value: '8G', size: 8, autocomplete: 'off' });
    const disk = h('input', { type: 'text', placeholder: '/home/…/disk.qcow2', autocomplete: 'off' });
    const wait = h('input', { type: 'checkbox' });
    const command = h('textarea', { rows: 4, spellcheck: 'false' });
    let written = false;
    wait.checked = Boolean(what.wait);
    function proposed() {
        const quoted = text => /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replace(/'/g, "'\\''")}'`;
        return `qemu-system-x86_64 -name ${name.value || 'vm'} -machine q35,accel=kvm:tcg -m ${quoted(memory.value)} -display none` +
            /* QEMU's own quoting: a comma twice. */
            (disk.value ? ` -drive ${quoted(`file=${disk.value.replace(/,/g, ',,')},if=virtio`)}` : '');
    }
    const propose = () => { if (!written) command.value = proposed(); };
    for (const input of [name, memory, disk])
        input.addEventListener('input', propose);
    command.addEventListener('input', () => { written = command.value !== ''; });
    propose();
    dialog(`Start a VM with ${what.name}`, [
        h('p', null, h('code', null, what.device), what.profile ? ` ${what.profile}` : ''),
        field('Name', name, 'Letters, digits, "_", "." and "-".'),
        field('Memory', memory), field('Disk image', disk),
        field('Wait in the queue if somebody has it', wait),
        h('details', null, h('summary', null, 'Command'),
          field('Command of the VM', command, 'A QEMU: the arguments that give it the device are added at its end. It runs as you, as a user unit.'))
    ], 'Start', async handle => {
        if (!/^[A-Za-z0-9_.-]{1,40}$/.test(name.value))
            throw new Error('A name has 1 to 40 letters, digits, "_", "." and "-".');
        const argv = words(command.value);
        if (!argv.length)
            throw new Error('The command is empty.');
        await start(name.value, what, { wait: wait.checked, qemu: true }, argv);
        act.started(name.value);
        follow(handle, name.value);
        return true;
    });
}

export function progressDialog(machine) {
    follow(dialog(`VM ${machine.name}`, h('div', null), null, null), machine.name);
}

const steps = { bind: 'Brings %s to VFIO', open: 'Hands over %s', restore: 'Gives %s back to the host' };

/* What a line of --progress=json says to people. */
function say(step) {
    if (step.event === 'waiting')
        return `Waits for ${step.device || 'a device'}, place ${step.place} in the queue` +
            (step.user ? `; ${step.user} has it` : '') + (step.ends ? ` until ${moment(step.ends)}` : '');
    if (step.event === 'warning')
        return step.sentence;
    return (steps[step.step] || step.step || step.event).replace('%s', step.device || `group ${step.iommu_group}`);
}

/* Shows the steps as they come, until the VM runs or the claim has failed. */
function follow(handle, name) {
    const bar = h('progress', { max: 1, value: 0, 'aria-label': `Progress of ${name}` });
    const now = h('p', { class: 'now', role: 'status' }, 'Starts …');
    const list = h('ol', { class: 'steps' });
    const detail = h('pre', { hidden: true });
    const stopping = button('Stop the VM', async () => { await stop({ unit: `${PREFIX}${name}.service` }); }, null);
    handle.done();
    handle.element.querySelector('form').insertBefore(h('div', { class: 'progress' }, bar, now, list, detail, h('p', null, stopping)),
                                                      handle.element.querySelector('footer'));
    let rest = '', refused = false;
    const tail = cockpit.spawn(['tail', '-n', '+1', '-s', '0.3', '-F', progressFile(name)], { err: 'ignore' });
    tail.stream(text => {
        const lines = (rest + text).split('\n');
        rest = lines.pop();
        for (const line of lines) {
            let step;
            try { step = JSON.parse(line); } catch (ex) { continue; }
            take(step);
        }
    });
    tail.catch(() => null);
    function take(step) {
        if (step.event === 'refused') {
            refused = true;
            end('bad', sentenceOf(step));
            return;
        }
        if (step.event === 'granted') {
            bar.value = bar.max;
            end('good', 'The VM runs with its GPU.');
            return;
        }
        if (step.total) {
            bar.max = step.total;
            bar.value = step.index;
        }
        now.textContent = say(step) + ' …';
        /* A place in the queue changes; a step is done. */
        if (step.event === 'waiting' && list.lastChild && list.lastChild.dataset.event === 'waiting')
            list.lastChild.remove();
        list.append(h('li', { 'data-event': step.event }, say(step)));
    }
    function end(kind, text) {
        now.className = `now ${kind}`;
        now.textContent = text;
    }
    /* A unit that ended without a word: what it said is in the journal. */
    const poll = setInterval(async () => {
        const unit = (await machines().catch(() => [])).find(m => m.name === name);
        if (unit && unit.active !== 'failed' && unit.active !== 'inactive')
            return;
        clearInterval(poll);
        stopping.remove();
        /* What was refused has its reason already. */
        if (!refused)
            end(unit ? 'bad' : 'quiet', unit ? 'The VM could not be started, or has failed.' : 'The VM has ended.');
        const said = await run(['journalctl', '--user', '-q', '-n', '20', '-o', 'cat', '-u', `${PREFIX}${name}.service`], manager()).catch(() => '');
        if (said) {
            detail.textContent = said;
            detail.hidden = false;
        }
    }, 2000);
    handle.element.addEventListener('close', () => { tail.close('terminated'); clearInterval(poll); });
}
