// A document of collections: tables that the server owns, of which this window holds a live part.
//
// What was written here lies over what the server has until the stream brings the write's id, or the
// server refuses it. Rows in progress lie between the two, and are gone with the connection. Of the
// tables on demand only loaded subsets come; one with a limit is a window, whose keys the server
// sends whenever they change.
//
// Events, beside those of a replica: "rejected" with `{change, error}` of a write that was refused.

import { Replica, newId } from './replica.js';
import { applyOps, applyUnconfirmed, matches, pathOf, placeOf, select } from './rows.js';

const UNCONFIRMED_AFTER = 10_000;

export class CollectionsReplica extends Replica {
  flight = null;
  #onDemand;
  #synced = new Map(); // table -> key -> row
  #partials = new Map(); // the same, of rows in progress
  #pending = []; // {id, ops, action, createdAt}, in order; the first may be in flight
  #subsets = new Map(); // id -> {id, table, where, orderBy, limit, isLoaded, keys, hasMore}
  #unloads = [];
  #lastSubset = 0;

  constructor(connection, docId, { onDemand = [] } = {}) {
    super(connection, docId);
    this.#onDemand = new Set(onDemand);
    connection.addEventListener('down', () => {
      this.#unloads = [];
      if (!this.#partials.size) return;
      this.#partials.clear();
      this.dispatchEvent(new Event('change'));
    });
    connection.addEventListener('changesPartial', ({ detail }) => {
      if (detail.docId !== docId) return;
      for (const change of detail.changes) applyOps(this.#partials, change.ops);
      this.dispatchEvent(new Event('change'));
    });
  }

  // Reading.

  /** The rows of a table as this window sees them, by key. */
  rows(table) {
    const rows = new Map(this.#synced.get(table));
    for (const [key, row] of this.#partials.get(table) ?? []) rows.set(key, row);
    for (const { ops } of this.#pending) applyUnconfirmed(rows, table, ops);
    return rows;
  }

  /** A live query: `{table, where, orderBy, limit}`. Of a table on demand it loads its rows. */
  query(wanted) {
    let subset = null;
    if (this.#onDemand.has(wanted.table)) {
      const id = `q${(this.#lastSubset += 1)}`;
      subset = { ...wanted, id, isLoaded: false, keys: null, hasMore: false };
      this.#subsets.set(id, subset);
      this.work();
    }
    return new Query(this, wanted, subset);
  }

  /** Whether an unconfirmed write concerns a row. */
  isPending(table, key) {
    return this.#pending.some((change) => concerns(change, table, key));
  }

  /** Whether one has waited for too long; it is still sent. */
  isUnconfirmed(table, key) {
    const before = Date.now() - UNCONFIRMED_AFTER;
    return this.#pending.some((change) => change.createdAt < before && concerns(change, table, key));
  }

  /** Whether a row is in progress: shown while the server still makes it. */
  isPartial(table, key) {
    return this.#partials.get(table)?.has(key) ?? false;
  }

  // Writing. Each gives the id of the change.

  insert(table, row) {
    return this.#write([{ op: 'add', path: pathOf(table, row.id), value: row }]);
  }

  /** Write columns; the server refuses it if a column is not what `expect` says. */
  update(table, key, columns, { expect = {} } = {}) {
    const tests = Object.entries(expect).map(([name, value]) => ({
      op: 'test',
      path: pathOf(table, key, name),
      value,
    }));
    const writes = Object.entries(columns).map(([name, value]) => ({
      op: 'replace',
      path: pathOf(table, key, name),
      value,
    }));
    return this.#write([...tests, ...writes]);
  }

  delete(table, key) {
    return this.#write([{ op: 'remove', path: pathOf(table, key) }]);
  }

  /** Call an action of the server; `ops` are what is shown until it has answered. */
  call(name, args = {}, ops = []) {
    return this.#write(ops, { name, args });
  }

  #write(ops, action) {
    const change = { id: newId(20), ops, createdAt: Date.now(), ...(action && { action }) };
    this.#pending.push(change);
    this.dispatchEvent(new Event('change'));
    this.work();
    return change.id;
  }

  get kept() {
    return { pending: this.#pending };
  }

  /** Go on with writes that were kept; the rows are fetched. */
  restore({ pending }) {
    this.#pending = [...pending, ...this.#pending];
  }

  // For queries.

  widen(subset, limit) {
    subset.limit = limit;
    subset.isLoaded = false;
    this.work();
  }

  forget(subset) {
    if (!this.#subsets.delete(subset.id)) return;
    this.#unloads.push(subset.id);
    this.#dropUncovered(subset.table);
    this.dispatchEvent(new Event('change'));
    this.work();
  }

  // What a replica asks for.

  get options() {
    const subsets = [...this.#subsets.values()].filter((subset) => subset.isLoaded).map(wire);
    return [{ onDemand: [...this.#onDemand], subsets }];
  }

  get catchesUp() {
    return true;
  }

  follows(change) {
    return change.baseRev <= this.rev;
  }

  async proceed() {
    if (this.#unloads.length) {
      await this.callAlone('unloadSubset', this.#unloads[0]);
      this.#unloads.shift();
      return true;
    }
    const subset = [...this.#subsets.values()].find((each) => !each.isLoaded && !each.error);
    if (!subset) return false;
    await this.#load(subset);
    return true;
  }

  async #load(subset) {
    const { limit } = subset;
    let answer;
    try {
      answer = await this.callAlone('loadSubset', wire(subset));
    } catch (error) {
      if (error.code !== 400 && error.code !== 413) throw error;
      subset.error = error; // asking again does not help
      this.dispatchEvent(new CustomEvent('failure', { detail: error }));
      return;
    }
    if (this.#subsets.get(subset.id) !== subset) return; // closed meanwhile
    applyOps(this.#synced, answer.ops);
    if (limit) subset.keys = new Set(answer.keys);
    subset.hasMore = answer.more;
    subset.isLoaded = subset.limit === limit;
    this.#dropUncovered(subset.table, new Set(answer.keys), limit ? null : subset);
    this.dispatchEvent(new Event('change'));
    if (answer.rev > this.rev) this.refresh(); // the other tables follow
  }

  load({ state, changes, windows = {} }) {
    this.#synced = new Map();
    for (const [table, rows] of Object.entries(state ?? {})) {
      this.#synced.set(table, new Map(Object.entries(rows)));
    }
    for (const subset of this.#subsets.values()) {
      if (subset.limit) subset.keys = new Set(windows[subset.id]);
    }
    for (const change of changes) this.apply(change);
  }

  apply({ ops, windows = {} }) {
    applyOps(this.#synced, ops);
    for (const op of ops) {
      const { table, key } = placeOf(op);
      this.#partials.get(table)?.delete(key);
    }
    for (const [id, keys] of Object.entries(windows)) {
      const subset = this.#subsets.get(id);
      if (subset) subset.keys = new Set(keys);
    }
    for (const table of this.#onDemand) this.#dropUncovered(table);
  }

  get hasUnsent() {
    return this.#pending.length > 0;
  }

  next() {
    this.flight = this.#pending[0];
    return { ...this.flight, baseRev: this.rev, rev: this.rev + 1 };
  }

  /** What the server made of it may be more than was asked for. */
  confirm(change) {
    this.#pending.shift();
    this.flight = null;
    if (change?.rev > this.rev) this.apply(change);
  }

  refuse(error) {
    const change = this.#pending.shift();
    this.flight = null;
    this.dispatchEvent(new CustomEvent('rejected', { detail: { change, error } }));
  }

  /** Rows on demand that no subset covers leave; of `anew`, a plain subset, those that its answer
   *  does not have, too. */
  #dropUncovered(table, answered, anew) {
    const subsets = [...this.#subsets.values()].filter((each) => each.table === table);
    const rows = this.#synced.get(table);
    for (const [key, row] of rows ?? []) {
      const isOutdated = anew && matches(anew.where, row) && !answered.has(key);
      const isCovered = subsets.some((each) =>
        each.limit ? each.keys?.has(key) : each.isLoaded && matches(each.where, row),
      );
      if (isOutdated || !isCovered) rows.delete(key);
    }
  }
}

/** Rows of one table that match a condition, in order, as they are whenever it is asked. */
class Query {
  #replica;
  #wanted;
  #subset;

  constructor(replica, wanted, subset) {
    this.#replica = replica;
    this.#wanted = wanted;
    this.#subset = subset;
  }

  get rows() {
    return select(this.#replica.rows(this.#wanted.table), this.#wanted);
  }

  get isLoading() {
    return this.#subset !== null && !this.#subset.isLoaded && !this.#subset.error;
  }

  /** Whether the table has rows behind its window. */
  get hasMore() {
    return this.#subset?.hasMore ?? false;
  }

  /** Raise the limit. */
  more(count) {
    this.#wanted = { ...this.#wanted, limit: this.#wanted.limit + count };
    if (this.#subset) this.#replica.widen(this.#subset, this.#wanted.limit);
  }

  close() {
    if (this.#subset) this.#replica.forget(this.#subset);
  }
}

function concerns(change, table, key) {
  return change.ops.some((op) => {
    const place = placeOf(op);
    return place.table === table && place.key === key;
  });
}

function wire({ id, table, where, orderBy, limit }) {
  return { id, table, ...(where && { where }), ...(orderBy && { orderBy }), ...(limit && { limit }) };
}

/** A key for a row, a UUIDv7: later ones sort behind earlier ones. */
export function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  const now = Date.now();
  for (let at = 0; at < 6; at += 1) bytes[at] = Math.floor(now / 2 ** (8 * (5 - at))) % 256;
  bytes[6] = (bytes[6] & 0x0f) | 0x70;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}
