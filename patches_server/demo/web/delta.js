// Text deltas: lists of {insert: text}, {retain: n} and {delete: n}, lengths in UTF-16 units.
//
// What the page needs of rich-text deltas, for plain text: formatting is passed over, an embedded
// object counts as one character. Every function leaves its arguments alone.

const EMBED = '\ufffc';

/** The length of one operation. */
const size = (op) => op.retain ?? op.delete ?? (typeof op.insert === 'string' ? op.insert.length : 1);

/** Adds an operation, merging it with the last one where that says the same. */
function push(ops, op) {
  if (size(op) === 0) return ops;
  const last = ops.at(-1);
  // An insert goes before a delete at the same place, so that equal edits have one form.
  if (op.insert !== undefined && last?.delete !== undefined) {
    const before = ops.at(-2);
    if (before?.insert !== undefined) ops[ops.length - 2] = { insert: before.insert + op.insert };
    else ops.splice(-1, 0, op);
  } else if (op.insert !== undefined && last?.insert !== undefined) {
    ops[ops.length - 1] = { insert: last.insert + op.insert };
  } else if (op.delete !== undefined && last?.delete !== undefined) {
    ops[ops.length - 1] = { delete: last.delete + op.delete };
  } else if (op.retain !== undefined && last?.retain !== undefined) {
    ops[ops.length - 1] = { retain: last.retain + op.retain };
  } else {
    ops.push(op);
  }
  return ops;
}

/** Drops a retain at the end, which says nothing. */
function chop(ops) {
  if (ops.at(-1)?.retain !== undefined) ops.pop();
  return ops;
}

/** Walks over operations in pieces of any length. */
class Walk {
  constructor(ops) {
    this.ops = ops;
    this.index = 0;
    this.offset = 0;
  }

  get done() {
    return this.index >= this.ops.length;
  }

  get op() {
    return this.ops[this.index];
  }

  get left() {
    return this.done ? Infinity : size(this.op) - this.offset;
  }

  take(length = Infinity) {
    if (this.done) return { retain: length };
    const { op, offset } = this;
    const count = Math.min(length, this.left);
    this.offset += count;
    if (this.offset === size(op)) {
      this.index += 1;
      this.offset = 0;
    }
    if (op.insert !== undefined) return { insert: op.insert.slice(offset, offset + count) };
    return op.delete !== undefined ? { delete: count } : { retain: count };
  }
}

/** A value of the wire (`[...]` or `{ops: [...]}`) as plain operations. */
export function plain(value) {
  const ops = [];
  for (const op of Array.isArray(value) ? value : value?.ops ?? []) {
    if (op.insert !== undefined) {
      push(ops, { insert: typeof op.insert === 'string' ? op.insert : EMBED });
    } else {
      push(ops, op.delete !== undefined ? { delete: op.delete } : { retain: op.retain });
    }
  }
  return ops;
}

/** The text after a delta; what reaches beyond its end is dropped. */
export function apply(text, delta) {
  let result = '';
  let at = 0;
  for (const op of delta) {
    if (op.insert !== undefined) {
      result += op.insert;
    } else {
      if (op.retain !== undefined) result += text.slice(at, at + op.retain);
      at += size(op);
    }
  }
  return result + text.slice(at);
}

/** One delta that does what `first` and then `second` do. */
export function compose(first, second) {
  const a = new Walk(first);
  const b = new Walk(second);
  const result = [];
  while (!a.done || !b.done) {
    if (b.op?.insert !== undefined) {
      push(result, b.take());
    } else if (a.op?.delete !== undefined) {
      push(result, a.take());
    } else {
      const length = Math.min(a.left, b.left);
      const one = a.take(length);
      const two = b.take(length);
      if (two.retain !== undefined) push(result, one);
      else if (one.retain !== undefined) push(result, two);
      // else: the second deletes what the first inserted
    }
  }
  return chop(result);
}

/** `other`, written for the text before `delta`, for the text after it. `first`: at the same place
 *  `delta`'s insert stands before `other`'s. */
export function transform(delta, other, first) {
  const a = new Walk(delta);
  const b = new Walk(other);
  const result = [];
  while (!a.done || !b.done) {
    if (a.op?.insert !== undefined && (first || b.op?.insert === undefined)) {
      push(result, { retain: size(a.take()) });
    } else if (b.op?.insert !== undefined) {
      push(result, b.take());
    } else {
      const length = Math.min(a.left, b.left);
      const one = a.take(length);
      const two = b.take(length);
      if (one.delete !== undefined) continue; // gone already, or nothing left to keep
      push(result, two.delete !== undefined ? two : { retain: length });
    }
  }
  return chop(result);
}

/** Where a position is after a delta. `stay`: an insert right at it does not push it on. */
export function transformPosition(delta, position, stay = false) {
  let at = 0;
  for (const op of delta) {
    if (at > position) break;
    if (op.delete !== undefined) {
      position -= Math.min(op.delete, position - at);
    } else if (op.insert !== undefined) {
      if (at < position || !stay) position += op.insert.length;
      at += op.insert.length;
    } else {
      at += op.retain;
    }
  }
  return position;
}

/** The delta that undoes `delta`, which was applied to `text`. */
export function invert(delta, text) {
  const result = [];
  let at = 0;
  for (const op of delta) {
    if (op.insert !== undefined) {
      push(result, { delete: op.insert.length });
    } else {
      if (op.retain !== undefined) push(result, { retain: op.retain });
      else push(result, { insert: text.slice(at, at + op.delete) });
      at += size(op);
    }
  }
  return chop(result);
}

const isHigh = (code) => code >= 0xd800 && code <= 0xdbff;

/** One edit that leads from one text to another; `caret` is where it ended in the new one. */
export function diff(before, after, caret = after.length) {
  const most = Math.min(before.length, after.length);
  let tail = 0;
  while (
    tail < Math.min(most, after.length - caret) &&
    before.at(-1 - tail) === after.at(-1 - tail)
  ) {
    tail += 1;
  }
  let head = 0;
  while (head < most - tail && before[head] === after[head]) head += 1;
  // An emoji is two units: both change, or none.
  if (head > 0 && isHigh(before.charCodeAt(head - 1))) head -= 1;
  if (tail > 0 && isHigh(before.charCodeAt(before.length - tail - 1))) tail -= 1;
  const result = push([], { retain: head });
  push(result, { insert: after.slice(head, after.length - tail) });
  push(result, { delete: before.length - tail - head });
  return chop(result);
}
