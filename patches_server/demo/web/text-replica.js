// One text of an OT document, merged as it is typed.
//
// Three layers: what the server has committed, the change that is in flight, and what was typed
// since. The text shown is all three. A committed change of somebody else is transformed over our
// layers to reach the text shown, and each of our layers over it in turn; at the same place the
// committed text stands first, as on the server.

import { apply, compose, diff, invert, plain, transform } from './delta.js';
import { Replica, newId } from './replica.js';

export class TextReplica extends Replica {
  #path;
  #committed = '\n';
  flight = null; // {id, delta, createdAt}
  #typed = [];
  #undo = [];
  #redo = [];

  constructor(connection, docId, path) {
    super(connection, docId);
    this.#path = path;
    this.shown = '\n';
  }

  /** The text without the newline that every text of a document ends with. */
  get text() {
    return this.shown.slice(0, -1);
  }

  /** An edit of this window. With `joined` it is taken back together with the one before. */
  edit(delta, { joined = false } = {}) {
    const back = invert(delta, this.shown);
    const before = joined ? this.#undo.pop() : undefined;
    this.#undo.push(before ? compose(back, before) : back);
    this.#redo = [];
    this.#change(delta);
  }

  /** Take back the last edit of this window, whatever others did since; the delta it came to. */
  undo() {
    return this.#back(this.#undo, this.#redo);
  }

  redo() {
    return this.#back(this.#redo, this.#undo);
  }

  get canUndo() {
    return this.#undo.some((delta) => delta.length);
  }

  get canRedo() {
    return this.#redo.some((delta) => delta.length);
  }

  /** What has to outlive a reload of the page. */
  get kept() {
    return { rev: this.rev, committed: this.#committed, flight: this.flight, typed: this.#typed };
  }

  /** Go on from what was kept. */
  restore({ rev, committed, flight, typed }) {
    this.#committed = committed;
    this.flight = flight;
    this.#typed = typed;
    this.shown = this.#layers();
    this.resume(rev);
  }

  // What a replica asks for.

  load({ state, changes }) {
    let committed = withNewline(textAt(state, this.#path));
    for (const change of changes) {
      for (const op of change.ops) committed = this.#applied(committed, op);
    }
    // Our layers were written for another text: carry them over the difference.
    this.#merge(diff(this.#committed, committed));
  }

  apply(change) {
    for (const op of change.ops) {
      const delta = this.#deltaOf(op);
      if (delta.length) this.#merge(delta);
    }
  }

  get hasUnsent() {
    return this.flight !== null || this.#typed.length > 0;
  }

  next() {
    if (this.flight === null) {
      this.flight = { id: newId(), delta: this.#typed, createdAt: Date.now() };
      this.#typed = [];
    }
    const { id, delta, createdAt } = this.flight;
    const ops = [{ op: '@txt', path: this.#path, value: delta }];
    return { id, ops, baseRev: this.rev, rev: this.rev + 1, createdAt };
  }

  confirm(change) {
    const sent = this.flight.delta;
    let committed = this.#committed;
    for (const op of change?.ops ?? []) committed = this.#applied(committed, op);
    const expected = apply(this.#committed, sent);
    this.#committed = committed;
    this.flight = null;
    if (committed !== expected) {
      this.#mergeTyped(diff(expected, committed)); // what the server has counts
    }
  }

  refuse() {
    const back = invert(this.flight.delta, this.#committed);
    this.flight = null;
    this.#mergeTyped(back);
  }

  // Layers.

  #merge(delta) {
    const flight = this.flight?.delta ?? [];
    this.#committed = withNewline(apply(this.#committed, delta));
    const overFlight = transform(flight, delta, false);
    if (this.flight) this.flight = { ...this.flight, delta: transform(delta, flight, true) };
    this.#mergeTyped(overFlight);
  }

  #mergeTyped(delta) {
    const visible = transform(this.#typed, delta, false);
    this.#typed = transform(delta, this.#typed, true);
    this.#move(visible);
  }

  #change(delta) {
    this.#typed = compose(this.#typed, delta);
    this.shown = withNewline(apply(this.shown, delta));
    this.dispatchEvent(new CustomEvent('local', { detail: delta }));
    this.dispatchEvent(new Event('status'));
    this.work();
  }

  #back(from, to) {
    let delta = from.pop();
    while (delta?.length === 0) delta = from.pop(); // others have taken it back already
    if (!delta) return [];
    to.push(invert(delta, this.shown));
    this.#change(delta);
    return delta;
  }

  /** The text shown moves by a delta that did not come from this window. */
  #move(delta) {
    if (!delta.length) return;
    this.shown = withNewline(apply(this.shown, delta));
    this.#undo = carried(this.#undo, delta);
    this.#redo = carried(this.#redo, delta);
    this.dispatchEvent(new CustomEvent('remote', { detail: delta }));
  }

  #layers() {
    return withNewline(apply(apply(this.#committed, this.flight?.delta ?? []), this.#typed));
  }

  /** What an operation does to our text, as a delta over the committed one. */
  #deltaOf(op) {
    if (op.op === '@txt' && op.path === this.#path) return plain(op.value);
    return diff(this.#committed, this.#applied(this.#committed, op));
  }

  #applied(text, op) {
    if (op.path === this.#path) {
      if (op.op === '@txt') return withNewline(apply(text, plain(op.value)));
      if (op.op === 'remove') return '\n';
      if (op.op === 'replace' || op.op === 'add') return withNewline(asText(op.value));
    }
    if (op.path === '' && op.op === 'replace') return withNewline(textAt(op.value, this.#path));
    return text; // another part of the document
  }
}

/** Edits to take back, newest last, after another delta. */
function carried(edits, delta) {
  const result = [];
  for (const edit of edits.toReversed()) {
    result.unshift(transform(delta, edit, true));
    delta = transform(edit, delta, false);
  }
  return result;
}

const withNewline = (text) => (text.endsWith('\n') ? text : `${text}\n`);

function textAt(state, path) {
  let value = state;
  for (const key of path.split('/').slice(1)) value = value?.[key];
  return asText(value);
}

const asText = (value) =>
  typeof value === 'string' ? value : apply('', plain(value ?? []).filter((op) => op.insert));
