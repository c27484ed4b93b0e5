// What every shared document of the page does, whatever its kind: subscribe, catch up, send one
// change at a time, and apply what others commit in the order of its revisions.
//
// A subclass holds the state and says what a change means:
//   load(snapshot)   start again from the server's state
//   apply(change)    one committed change of somebody else
//   hasUnsent        whether something is not confirmed yet
//   flight           the change in flight, with its id; null if there is none
//   next()           put the next change in flight: the same one until it is confirmed
//   confirm(change)  the one in flight as the server committed it (null: it came to nothing)
//   refuse(error)    the one in flight was refused for good
// It may say otherwise:
//   options          what every call about the document takes besides
//   catchesUp        whether to ask for what was missed, not for the whole
//   follows(change)  whether nothing was missed before a change
//   proceed()        one more thing to do before changes are sent; false if there is none
//
// Events: "change" after every visible change, "status" when `isSaved` may have changed.

import { ConnectionLost } from './connection.js';

const RETRY_DELAY = 2_000;

export class Replica extends EventTarget {
  rev = 0;
  #connection;
  #caughtUp = false;
  #loaded = false;
  #working = false;
  #held = false;
  #sending = false;
  #early = [];

  constructor(connection, docId) {
    super();
    this.docId = docId;
    this.#connection = connection;
    connection.addEventListener('up', () => this.work());
    connection.addEventListener('down', () => {
      this.#caughtUp = false;
      this.#early = [];
    });
    connection.addEventListener('changesCommitted', ({ detail }) => {
      if (detail.docId !== this.docId) return;
      this.#early.push(...detail.changes);
      if (detail.changes.length) this.#takeEarly();
      else this.refresh(); // the server says that there is something, and not what
    });
    connection.addEventListener('docDeleted', ({ detail }) => {
      if (detail.docId === this.docId) this.#startAgain();
    });
  }

  get options() {
    return [];
  }

  get catchesUp() {
    return this.hasUnsent;
  }

  follows(change) {
    return change.rev === this.rev + 1;
  }

  async proceed() {
    return false;
  }

  /** Call a method about the document. What is broadcast meanwhile waits. */
  async callAlone(method, ...params) {
    this.#held = true;
    try {
      return await this.#connection.call(method, this.docId, ...params);
    } finally {
      this.#held = false;
    }
  }

  /** Whether the server has everything. */
  get isSaved() {
    return this.#caughtUp && !this.hasUnsent;
  }

  /** Whether what the server had, when the connection was made, is here. */
  get isCaughtUp() {
    return this.#caughtUp;
  }

  /** Whether there is something to show. */
  get isLoaded() {
    return this.#loaded;
  }

  /** Go on from a state that was kept in this window. */
  resume(rev) {
    this.rev = rev;
    this.#loaded = true;
  }

  /** Fetch what was committed by another replica of this window: nobody tells us of it. */
  refresh() {
    this.#caughtUp = false;
    return this.work();
  }

  /** Do what is to be done, one call after another. Called whenever there may be something. */
  async work() {
    if (this.#working) return;
    this.#working = true;
    try {
      while (this.#connection.isUp && (await this.#step()));
    } catch (error) {
      if (!(error instanceof ConnectionLost)) this.#retry(error);
    } finally {
      this.#working = false;
      this.dispatchEvent(new Event('status'));
    }
  }

  async #step() {
    if (!this.#caughtUp) {
      await this.#catchUp();
      return true;
    }
    if (await this.proceed()) {
      this.#takeEarly();
      return true;
    }
    if (!this.hasUnsent) return false;
    await this.#send(this.next());
    return true;
  }

  async #catchUp() {
    await this.#connection.call('subscribe', this.docId);
    if (this.#loaded && this.catchesUp) {
      await this.#difference();
    } else {
      await this.#reload();
    }
    this.#caughtUp = true;
    this.#takeEarly();
    this.dispatchEvent(new Event('status'));
  }

  async #difference() {
    const call = ['getChangesSince', this.docId, this.rev, ...this.options];
    try {
      this.#take(await this.#connection.call(...call));
    } catch (error) {
      if (error.code !== 409) throw error;
      await this.#reload(); // it cannot be told any more
    }
  }

  async #reload() {
    const snapshot = await this.#connection.call('getDoc', this.docId, ...this.options);
    this.load(snapshot);
    this.rev = snapshot.changes.at(-1)?.rev ?? snapshot.rev;
    this.#loaded = true;
    this.dispatchEvent(new Event('change'));
  }

  async #send(change) {
    this.#sending = true;
    this.dispatchEvent(new Event('status'));
    try {
      const call = ['commitChanges', this.docId, [change], ...this.options];
      const answer = await this.#connection.call(...call);
      if (answer.docReloadRequired) {
        this.confirm(change);
        await this.#reload();
      } else {
        this.#take(answer.changes);
        if (this.flight?.id === change.id) this.confirm(null);
      }
    } catch (error) {
      if (error.data?.scope === 'change') {
        this.refuse(error);
        this.dispatchEvent(new CustomEvent('failure', { detail: error }));
      } else if (error.code === 409) {
        this.#loaded = this.#caughtUp = false; // our history is not the server's: load it again
      } else {
        throw error;
      }
    } finally {
      this.#sending = false;
    }
    this.#takeEarly();
    this.dispatchEvent(new Event('change'));
  }

  /** Apply committed changes; what we have already is passed over. */
  #take(changes) {
    for (const change of changes) {
      if (change.id === this.flight?.id) {
        this.confirm(change);
      } else if (change.rev > this.rev) {
        this.apply(change);
      }
      this.rev = Math.max(this.rev, change.rev);
    }
    if (changes.length) this.dispatchEvent(new Event('change'));
  }

  /** Apply what was broadcast, as far as it follows on. While a change of ours is in flight a gap
   *  may be that change, whose answer is still on its way; otherwise something was missed. */
  #takeEarly() {
    if (!this.#caughtUp || this.#held) return;
    this.#early = this.#early.filter((change) => change.rev > this.rev);
    while (this.#early.length && this.follows(this.#early[0])) this.#take([this.#early.shift()]);
    if (this.#early.length && !this.#sending) {
      this.#early = [];
      this.#caughtUp = false;
      this.work();
    }
  }

  #startAgain() {
    this.#loaded = this.#caughtUp = false;
    this.rev = 0;
    this.work();
  }

  #retry(error) {
    this.dispatchEvent(new CustomEvent('failure', { detail: error }));
    setTimeout(() => this.work(), error.data?.retryAfterMs ?? RETRY_DELAY);
  }
}

const ALPHABET = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';

/** A random id. */
export function newId(length = 12) {
  const bytes = crypto.getRandomValues(new Uint8Array(length));
  return Array.from(bytes, (byte) => ALPHABET[byte % 62]).join('');
}
