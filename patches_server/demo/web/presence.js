// Who else is here: each window sends its state to the others through the server's relay.
//
// Event "change": `people` is another list.

const PAUSE = 80; // between two messages to the same peer

export class Presence extends EventTarget {
  #connection;
  #peers = new Map(); // id -> state, null until it is known
  #id = null;
  #mine;
  #timer = null;

  constructor(connection, mine) {
    super();
    this.#connection = connection;
    this.#mine = mine;
    const on = (name, react) =>
      connection.addEventListener(name, ({ detail }) => react.call(this, detail));
    on('peer-welcome', this.#welcome);
    on('peer-disconnected', ({ id, room, withdrawn }) => this.#forget(id, room, withdrawn));
    on('signal', this.#hear);
    connection.addEventListener('down', () => this.#alone());
  }

  /** The others whose name is known. */
  get people() {
    return [...this.#peers.values()].filter((state) => state !== null);
  }

  /** What the others are to know of this window. */
  get mine() {
    return this.#mine;
  }

  /** Change some of it. They hear of it soon. */
  update(fields) {
    this.#mine = { ...this.#mine, ...fields };
    this.#timer ??= setTimeout(() => {
      this.#timer = null;
      for (const peer of this.#peers.keys()) this.#tell(peer);
    }, PAUSE);
  }

  /** Move the others' cursors as the text does. */
  moveCursors(move) {
    for (const state of this.people) {
      if (state.cursor) state.cursor = state.cursor.map(move);
    }
  }

  #welcome({ id, peers, room }) {
    if (room !== undefined) return; // the same again, for peers that know rooms
    this.#id = id;
    this.#peers = new Map(peers.map((peer) => [peer, null]));
    peers.forEach((peer) => this.#tell(peer));
    this.#changed();
  }

  #hear({ from, data }) {
    const state = parsed(data);
    if (!state) return;
    const isNew = !this.#peers.get(from); // it may have come to the document only now
    this.#peers.set(from, state.left ? null : { ...state, id: from });
    if (isNew && !state.left) this.#tell(from);
    this.#changed();
  }

  /** A peer is gone; from one `room` or `withdrawn`: it is connected, and may be back. */
  #forget(id, room, withdrawn) {
    if (!this.#peers.has(id)) return;
    if (room === undefined && !withdrawn) this.#peers.delete(id);
    else this.#peers.set(id, null);
    this.#changed();
  }

  #alone() {
    this.#peers.clear();
    this.#changed();
  }

  #tell(peer) {
    const state = JSON.stringify({ ...this.#mine, id: this.#id });
    this.#connection.notify('peer-signal', peer, state);
  }

  #changed() {
    this.dispatchEvent(new Event('change'));
  }
}

/** A state that came from another window, if it is one that can be shown. */
function parsed(data) {
  try {
    const { name, color, cursor, left } = JSON.parse(data);
    if (left === true) return { left };
    if (typeof name !== 'string' || !name) return null;
    const hue = Number.isFinite(color) ? color : 0;
    const at = Number.isInteger(cursor) ? [cursor, cursor] : cursor; // a position, or a selection
    const range = Array.isArray(at) && at.length === 2 && at.every(Number.isInteger);
    return { name: name.slice(0, 24), color: hue, cursor: range ? at : null };
  } catch {
    return null;
  }
}
