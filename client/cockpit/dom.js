/* SPDX-License-Identifier: MIT */
/*
 * Elements, dialogs and times. All text becomes text nodes, never HTML: names of devices, users and files
 * come from outside.
 */

/* h('button', { class: 'primary', onclick: f }, 'Start', ...): attributes with `on` are listeners, false and null are left out. */
export function h(name, attributes, ...children) {
    const e = document.createElement(name);
    set(e, attributes);
    append(e, children);
    return e;
}

export function svg(name, attributes, ...children) {
    const e = document.createElementNS('http://www.w3.org/2000/svg', name);
    set(e, attributes);
    append(e, children);
    return e;
}

function set(e, attributes) {
    for (const [key, value] of Object.entries(attributes || {})) {
        if (value === false || value === null || value === undefined)
            continue;
        if (key.startsWith('on'))
            e.addEventListener(key.slice(2), value);
        else if (key === 'value')
            e.value = value;
        else
            e.setAttribute(key, value === true ? '' : value);
    }
}

function append(e, children) {
    for (const child of children.flat(Infinity))
        if (child !== null && child !== undefined && child !== false)
            e.append(child);
}

/* Replaces what is in a view. What was open stays open, and the focus stays where it was, by `data-key`. */
export function show(view, content) {
    const open = new Map();
    for (const e of view.querySelectorAll('details[data-key]'))
        open.set(e.dataset.key, e.open);
    const key = view.contains(document.activeElement) && document.activeElement.dataset.key;
    view.replaceChildren(...[content].flat(Infinity).filter(e => e));
    for (const e of view.querySelectorAll('details[data-key]'))
        if (open.has(e.dataset.key))
            e.open = open.get(e.dataset.key);
    if (key) {
        for (const e of view.querySelectorAll('[data-key]'))
            if (e.dataset.key === key)
                e.focus();
    }
}

export const label = (kind, text) => h('span', { class: 'label ' + kind }, text);
export const button = (text, onclick, attributes) => h('button', { type: 'button', onclick, ...attributes }, text);

/* A table whose rows become blocks on a narrow screen, each cell with the name of its column. */
export function table(caption, columns, rows) {
    return h('table', null,
             h('caption', null, caption),
             h('thead', null, h('tr', null, columns.map(c => h('th', { scope: 'col' }, c)))),
             h('tbody', null, rows.map(row => h('tr', null, row.map((cell, i) =>
                 h(i ? 'td' : 'th', { 'data-column': columns[i], scope: i ? null : 'row' }, h('span', null, cell)))))));
}

export const empty = (title, ...text) => h('div', { class: 'empty' }, h('h2', null, title), h('p', null, text));

/* A field of a form, with its explanation: both are read aloud. */
let fields = 0;
export function field(text, input, help) {
    const id = 'field-' + ++fields;
    input.id = id;
    if (help)
        input.setAttribute('aria-describedby', id + '-help');
    return h('div', { class: 'field' + (input.type === 'checkbox' ? ' check' : '') },
             h('label', { for: id }, text), input,
             help && h('p', { id: id + '-help', class: 'help' }, help));
}

/*
 * Opens a dialog with a form. `submit` is called with the dialog's handle, and may return a promise: the dialog
 * closes when that is fulfilled, unless it returned true, and shows the error when it is not.
 */
export function dialog(title, body, action, submit, danger) {
    const error = h('p', { class: 'error', role: 'alert', hidden: true });
    const go = h('button', { type: 'submit', class: danger ? 'danger' : 'primary' }, action);
    const close = button('Cancel', () => d.close());
    const fields = h('div', null, body);
    const d = h('dialog', { 'aria-labelledby': 'dialog-title' },
                h('form', { method: 'dialog', novalidate: true, onsubmit },
                  h('h2', { id: 'dialog-title' }, title), fields, error,
                  h('footer', null, action && go, close)));
    const opener = document.activeElement;
    const handle = {
        close: () => d.close(),
        /* The form is over: what follows is only looked at. */
        done: () => { go.remove(); fields.hidden = true; close.textContent = 'Close'; },
        fail: text => { error.textContent = text; error.hidden = false; },
        element: d
    };
    async function onsubmit(event) {
        event.preventDefault();
        error.hidden = true;
        go.disabled = true;
        try {
            if (!await submit(handle))
                d.close();
        } catch (ex) {
            handle.fail(ex.message || String(ex));
        }
        go.disabled = false;
    }
    d.addEventListener('close', () => {
        d.remove();
        if (opener && opener.isConnected)
            opener.focus();
    });
    document.body.append(d);
    d.showModal();
    return handle;
}

export function toast(kind, text) {
    const t = h('div', { class: 'toast ' + kind }, text, button('×', () => t.remove(), { 'aria-label': 'Close this message' }));
    document.getElementById('toasts').append(t);
    if (kind !== 'bad')
        setTimeout(() => t.remove(), 8000);
}

/* 3725 -> "1 h 2 min". */
export function duration(seconds) {
    seconds = Math.max(0, Math.round(seconds));
    const d = Math.floor(seconds / 86400), hours = Math.floor(seconds / 3600) % 24, m = Math.floor(seconds / 60) % 60;
    if (d)
        return `${d} d ${hours} h`;
    if (hours)
        return `${hours} h ${m} min`;
    return m ? `${m} min` : `${seconds} s`;
}

/* The broker's times are seconds since 1970. */
export function moment(time) {
    const date = new Date(time * 1000);
    const today = date.toDateString() === new Date().toDateString();
    return date.toLocaleString([], today ? { timeStyle: 'short' } : { dateStyle: 'medium', timeStyle: 'short' });
}

export const ago = time => duration(Date.now() / 1000 - time);
