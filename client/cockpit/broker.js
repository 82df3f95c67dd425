/* SPDX-License-Identifier: MIT */
/*
 * Speaks to the broker, by the command gpubroker and as whoever has logged in: the page has no right of its own.
 * With `admin` a command is run by Cockpit's administrative access, and so as root.
 */
const cockpit = window.cockpit;

/* Runs a program. Its output is returned; an error has the sentence that it printed. */
export async function run(argv, { admin = false, input = null, environ = [] } = {}) {
    let out = '';
    const process = cockpit.spawn(argv, { err: 'message', superuser: admin ? 'require' : null, environ: ['LC_ALL=C.UTF-8', ...environ] });
    process.stream(text => { out += text; });
    if (input !== null)
        process.input(input);
    try {
        await process;
    } catch (ex) {
        throw failure(ex, out, argv[0]);
    }
    return out;
}

export const sentenceOf = refusal => [refusal.sentence, refusal.hint].filter(text => text).join(' ');

/* The broker's refusals are sentences, which are shown as they are; with --json they are an object that has them. */
function failure(ex, out, program) {
    let refusal = null;
    try {
        refusal = JSON.parse(ex.message);
    } catch (e) { /* it was not one */ }
    let text = refusal && refusal.sentence ? sentenceOf(refusal) : (ex.message || String(ex));
    if (ex.problem === 'access-denied')
        text = 'This takes administrative access: switch it on at the top of the page.';
    else if (ex.problem === 'not-found')
        text = `The program ${program} is not installed.`;
    const error = new Error(text.replace(/^gpubroker: /, '').trim());
    error.status = ex.exit_status;
    error.refusal = refusal;
    error.output = out;
    return error;
}

export async function json(...args) {
    return JSON.parse(await run(['gpubroker', ...args, '--json']));
}

/* Calls back with each event until stop() is called. The watch begins again when the broker does. */
export function watch(onevent, onstate) {
    let process = null, stopped = false, pause = 1000;
    function start() {
        let rest = '';
        process = cockpit.spawn(['gpubroker', 'watch', '--json'], { err: 'message' });
        process.stream(text => {
            pause = 1000;
            const lines = (rest + text).split('\n');
            rest = lines.pop();
            for (const line of lines)
                if (line.trim())
                    onevent(JSON.parse(line));
        });
        onstate(null);
        process.catch(ex => ex).then(ex => {
            if (stopped)
                return;
            onstate(failure(ex && ex.message ? ex : { message: 'The broker has ended.' }, '', 'gpubroker'));
            setTimeout(start, pause);
            pause = Math.min(pause * 2, 30000);
        });
    }
    start();
    return { stop() { stopped = true; process.close('terminated'); } };
}

/* A user whom the host's name service does not know has only a number. */
export const userName = (name, uid) => name || `user ${uid}`;
