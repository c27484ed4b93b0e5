// An LWW document: a tree of fields, each decided by the last write.
//
// What was written here and is not confirmed yet lies, by path, over what the server has; a field
// written twice before it is sent is sent once.

import { Replica, newId } from './replica.js';

export class FieldsReplica extends Replica {
  #committed = {};
  flight = null; // {id, ops, createdAt}
  #written = new Map(); // path -> op

  /** The document as this window sees it. */
  get state() {
    let state = this.#committed;
    for (const op of this.flight?.ops ?? []) state = written(state, op);
    for (const op of this.#written.values()) state = written(state, op);
    return state;
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

const isObject = (value) => typeof value === 'object' && value !== null && !Array.isArray(value);
