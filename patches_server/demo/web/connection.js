// A JSON-RPC connection over a websocket that comes back by itself.
//
// A socket can be dead for a long time before the browser says so: after sleep, or on a network that
// is gone. So what the browser knows is heard at once (offline, online, shown again), and while the
// window is shown or waits for answers, the server has to answer a small call now and then.
//
// Events: "up" (a new socket is open), "down" (it is gone; every call in flight has failed), and one
// for each notification of the server, by its method's name, with the params as `detail`.

const FIRST_DELAY = 500;
const LONGEST_DELAY = 15_000;
const CALL_TIMEOUT = 30_000;
const PROBE_EVERY = 10_000;
const PROBE_TIMEOUT = 5_000;

/** No answer came, and it is not known whether the call was carried out. */
export class ConnectionLost extends Error {}

/** The server refused a call. */
export class Refused extends Error {
  constructor({ code, message, data }) {
    super(message);
    this.code = code;
    this.data = data;
  }
}

export class Connection extends EventTarget {
  #url;
  #socket = null;
  #calls = new Map();
  #lastId = 0;
  #attempt = 0;
  #timer = null;
  #wanted = false;
  #heardAt = 0;
  #probeTimer = null;

  constructor(url) {
    super();
    this.#url = url;
    addEventListener('offline', () => this.#lost(this.#socket));
    addEventListener('online', () => this.#look(true));
    for (const sign of ['pageshow', 'focus']) addEventListener(sign, () => this.#look());
    document.addEventListener('visibilitychange', () => !document.hidden && this.#look());
    setInterval(() => {
      const isWatched = !document.hidden || this.#calls.size > 0;
      if (isWatched && performance.now() - this.#heardAt > PROBE_EVERY) this.#probe();
    }, PROBE_EVERY / 2);
  }

  /** Whether a socket is open. */
  get isUp() {
    return this.#socket?.readyState === WebSocket.OPEN;
  }

  /** Whether it tries to be connected. */
  get isWanted() {
    return this.#wanted;
  }

  /** Connect, and stay connected. */
  open() {
    this.#wanted = true;
    this.#attempt = 0;
    if (!this.#socket) this.#connect();
  }

  /** Close the socket and stay offline. */
  close() {
    this.#wanted = false;
    clearTimeout(this.#timer);
    this.#lost(this.#socket);
  }

  /** Call a method of the server. Fails with `Refused`, or with `ConnectionLost`. */
  call(method, ...params) {
    if (!this.isUp) return Promise.reject(new ConnectionLost('not connected'));
    const id = ++this.#lastId;
    const socket = this.#socket;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => this.#lost(socket), CALL_TIMEOUT);
      this.#calls.set(id, { resolve, reject, timer });
      socket.send(JSON.stringify({ jsonrpc: '2.0', id, method, params }));
    });
  }

  /** Send a message that is not answered. */
  notify(method, ...params) {
    if (this.isUp) this.#socket.send(JSON.stringify({ jsonrpc: '2.0', method, params }));
  }

  /** There may be a network again, or none any more: find out now. With `anew` a socket that is
   *  not open yet is given up: it was dialled on another network. */
  #look(anew = false) {
    if (!this.#wanted) return;
    if (this.isUp) {
      this.#probe();
    } else if (anew || !this.#socket) {
      this.#attempt = 0;
      this.#drop();
      this.#connect();
    }
  }

  /** A call that costs nothing. If it is not answered soon, the socket is replaced. */
  #probe() {
    if (!this.isUp || this.#probeTimer) return;
    const socket = this.#socket;
    this.#probeTimer = setTimeout(() => this.#lost(socket), PROBE_TIMEOUT);
    this.call('unsubscribe', []).catch(() => {});
  }

  #connect() {
    const socket = new WebSocket(this.#url);
    this.#socket = socket;
    socket.onopen = () => {
      this.#attempt = 0;
      this.dispatchEvent(new Event('up'));
    };
    socket.onmessage = ({ data }) => this.#receive(JSON.parse(data));
    socket.onclose = () => this.#lost(socket);
  }

  #receive(frame) {
    this.#heard();
    if (frame.method !== undefined) {
      this.dispatchEvent(new CustomEvent(frame.method, { detail: frame.params }));
      return;
    }
    const call = this.#calls.get(frame.id);
    if (!call) return;
    this.#calls.delete(frame.id);
    clearTimeout(call.timer);
    if (frame.error) call.reject(new Refused(frame.error));
    else call.resolve(frame.result);
  }

  #heard() {
    this.#heardAt = performance.now();
    clearTimeout(this.#probeTimer);
    this.#probeTimer = null;
  }

  #lost(socket) {
    if (!socket || socket !== this.#socket) return;
    this.#drop();
    if (!this.#wanted) return;
    const delay = Math.min(LONGEST_DELAY, FIRST_DELAY * 1.5 ** this.#attempt);
    this.#attempt += 1;
    this.#timer = setTimeout(() => this.#connect(), delay * (1 - Math.random() * 0.2));
  }

  /** Give up the socket, and with it every call in flight. */
  #drop() {
    const socket = this.#socket;
    this.#socket = null;
    clearTimeout(this.#timer);
    this.#heard();
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close();
    for (const { reject, timer } of this.#calls.values()) {
      clearTimeout(timer);
      reject(new ConnectionLost('the connection was lost'));
    }
    this.#calls.clear();
    this.dispatchEvent(new Event('down'));
  }
}
