// An LWW document: a tree of fields, each decided by the last write.
//
// What was written here and is not confirmed yet lies, by path, over what the server has; a field
// written twice before it is sent is sent once.

import { Replica, newId } from './replica.js';

export class FieldsReplica extends Replica {
  #committed = {};
  flight = null; // {id, ops, createdAt}
  #written = new Map(); // path -> op
  #undo = []; // {path, before, after}, newest last; undefined: not there
  #redo = [];

  /** The document as this window sees it. */
  get state() {
    let state = this.#committed;
    for (const op of this.flight?.ops ?? []) state = written(state, op);
    for (const op of this.#written.values()) state = written(state, op);
    return state;
  }

  /** An edit of this window: `set`, to be taken back. With `joined` it is taken back together with
   *  the one before, if that wrote the same field. */
  edit(path, value, { joined = false } = {}) {
    const last = this.#undo.at(-1);
    const before = joined && last?.path === path ? this.#undo.pop().before : this.#at(path);
    this.#undo.push({ path, before, after: value });
    this.#redo = [];
    this.set(path, value);
  }

  /** Take back the last edit of this window whose field still holds what it wrote. */
  undo() {
    return this.#back(this.#undo, this.#redo);
  }

  redo() {
    return this.#back(this.#redo, this.#undo);
  }

  get canUndo() {
    return this.#undo.length > 0;
  }

  get canRedo() {
    return this.#redo.length > 0;
  }

  /** Write a field, or with `undefined` remove it. */
  set(path, value) {
    const ts = Date.now();
    for (const other of this.#written.keys()) {
      if (other.startsWith(`${path}/`)) this.#written.delete(other);
    }
    this.#written.delete(path); // the later write comes last
    this.#written.set(
      path,
      value === undefined ? { op: 'remove', path, ts } : { op: 'replace', path, value, ts },
    );
    this.dispatchEvent(new Event('change'));
    this.work();
  }

  get kept() {
    const ops = [...this.#written.values()];
    return { rev: this.rev, committed: this.#committed, flight: this.flight, written: ops };
  }

  restore({ rev, committed, flight, written: ops }) {
    this.#committed = committed;
    this.flight = flight;
    this.#written = new Map(ops.map((op) => [op.path, op]));
    this.resume(rev);
  }

  #back(from, to) {
    while (from.length) {
      const { path, before, after } = from.pop();
      if (!isEqual(this.#at(path), after)) continue; // others have written it since
      to.push({ path, before: after, after: before });
      this.set(path, before);
      return true;
    }
    this.dispatchEvent(new Event('status'));
    return false;
  }

  #at(path) {
    let value = this.state;
    for (const key of path.split('/').slice(1)) value = isObject(value) ? value[key] : undefined;
    return value;
  }

  // What a replica asks for.

  load({ state, changes }) {
    this.#committed = state ?? {};
    for (const change of changes) this.apply(change);
  }

  apply(change) {
    for (const op of change.ops) this.#committed = written(this.#committed, op);
  }

  get hasUnsent() {
    return this.flight !== null || this.#written.size > 0;
  }

  next() {
    if (this.flight === null) {
      const ops = [...this.#written.values()];
      this.flight = { id: newId(), ops, createdAt: Date.now() };
      this.#written = new Map();
    }
    return { ...this.flight, baseRev: this.rev, rev: this.rev + 1 };
  }

  /** The answer holds every field at or below what was sent, as the server decided. */
  confirm(change) {
    this.flight = null;
    if (change) this.apply(change);
  }

  refuse() {
    this.flight = null;
  }
}

/** A state with one more operation; everything beside its path is shared. */
function written(state, op) {
  return put(state, op.path.split('/').slice(1), op);
}

function put(node, [key, ...rest], op) {
  // Nothing is removed below what is not there, and nothing is made for it.
  if (op.op === 'remove' && !(rest.length ? isObject(node[key]) : key in node)) return node;
  const copy = { ...node };
  if (rest.length) copy[key] = put(isObject(copy[key]) ? copy[key] : {}, rest, op);
  else if (op.op === 'remove') delete copy[key];
  else copy[key] = op.value;
  return copy;
}

function isEqual(one, other) {
  if (!isObject(one) || !isObject(other)) return one === other;
  const keys = Object.keys(one);
  if (keys.length !== Object.keys(other).length) return false;
  return keys.every((key) => key in other && isEqual(one[key], other[key]));
}

const isObject = (value) => typeof value === 'object' && value !== null && !Array.isArray(value);
