// Rows of tables: what a change does to them, and which of them a query has, in order.
//
// The rules are those of the server's SQL: a comparison with null is false, strings compare by code
// point, nothing is converted, rows without a value come last, and equal ones are ordered by key.

/** Apply row operations to tables: a Map of Maps, by name and key. */
export function applyOps(tables, ops) {
  for (const op of ops) {
    if (op.op === 'test') continue;
    const [table, key, column] = op.path.split('/').slice(1).map(unescape);
    if (!tables.has(table)) tables.set(table, new Map());
    const rows = tables.get(table);
    if (key === undefined) rows.clear(); // a table that was emptied
    else if (op.op === 'remove') rows.delete(key);
    else if (column === undefined) rows.set(key, op.value);
    else if (rows.has(key)) rows.set(key, { ...rows.get(key), [column]: op.value });
  }
}

/** The same for a write that is not confirmed: one that does not fit has no effect here. */
export function applyUnconfirmed(rows, table, ops) {
  for (const op of ops) {
    const [name, key, column] = op.path.split('/').slice(1).map(unescape);
    if (name !== table || op.op === 'test') continue;
    if (op.op === 'remove') rows.delete(key);
    else if (column !== undefined) rows.has(key) && rows.set(key, { ...rows.get(key), [column]: op.value });
    else if (!rows.has(key)) rows.set(key, op.value);
  }
}

/** The table and key of an operation. */
export function placeOf(op) {
  const [table, key] = op.path.split('/').slice(1).map(unescape);
  return { table, key };
}

/** The path of a row, or of one of its columns. */
export function pathOf(...parts) {
  return parts.map((part) => `/${part.replaceAll('~', '~0').replaceAll('/', '~1')}`).join('');
}

const unescape = (part) => part.replaceAll('~1', '/').replaceAll('~0', '~');

/** Whether a condition, in the form of the wire, holds for a row. */
export function matches(condition, row) {
  if (!condition) return true;
  const [kind, ...rest] = condition;
  if (kind === 'and') return rest.every((part) => matches(part, row));
  if (kind === 'or') return rest.some((part) => matches(part, row));
  if (kind === 'not') return !matches(rest[0], row);
  const held = row[rest[0]] ?? null;
  if (kind === 'null') return held === null;
  if (held === null) return false;
  const values = kind === 'in' ? rest[1] : [rest[1]];
  return values.some((value) => holds(kind, held, value));
}

function holds(kind, held, value) {
  if (value === null) return false;
  const isSame = typeof held === typeof value;
  if (kind === '=' || kind === 'in') return isSame && held === value;
  if (kind === '!=') return !(isSame && held === value);
  if (kind === 'prefix') return isSame && typeof held === 'string' && held.startsWith(value);
  if (kind === 'contains') return isSame && typeof held === 'string' && held.includes(value);
  if (!isSame) return false;
  const order = compare(held, value);
  return { '<': order < 0, '<=': order <= 0, '>': order > 0, '>=': order >= 0 }[kind];
}

/** The rows of a query, in order. */
export function select(rows, { where, orderBy = [], limit }) {
  const found = [...rows].filter(([, row]) => matches(where, row));
  found.sort(([oneKey, one], [otherKey, other]) => {
    for (const [column, direction] of orderBy) {
      const order = compareNullsLast(one[column] ?? null, other[column] ?? null, direction === 'desc');
      if (order) return order;
    }
    return compare(oneKey, otherKey);
  });
  return found.slice(0, limit).map(([, row]) => row);
}

function compareNullsLast(one, other, isDescending) {
  if (one === null || other === null) return (one === null) - (other === null);
  return isDescending ? -compare(one, other) : compare(one, other);
}

function compare(one, other) {
  if (typeof one !== 'string' || typeof other !== 'string') return Number(one) - Number(other);
  for (let at = 0; at < one.length && at < other.length; at += 1) {
    if (one.charCodeAt(at) === other.charCodeAt(at)) continue;
    // By code point: halves of pairs come behind all other units.
    return rank(one.charCodeAt(at)) - rank(other.charCodeAt(at));
  }
  return one.length - other.length;
}

const rank = (unit) => (unit >= 0xd800 && unit <= 0xdfff ? unit + 0x10000 : unit);
