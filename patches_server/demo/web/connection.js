// A JSON-RPC connection over a websocket that comes back by itself.
//
// Events: "up" (a new socket is open), "down" (it is gone; every call in flight has failed), and one
// for each notification of the server, by its method's name, with the params as `detail`.

const FIRST_DELAY = 500;
const LONGEST_DELAY = 15_000;
const CALL_TIMEOUT = 30_000;

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

  constructor(url) {
    super();
    this.#url = url;
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

  #lost(socket) {
    if (!socket || socket !== this.#socket) return;
    this.#socket = null;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close();
    for (const { reject, timer } of this.#calls.values()) {
      clearTimeout(timer);
      reject(new ConnectionLost('the connection was lost'));
    }
    this.#calls.clear();
    this.dispatchEvent(new Event('down'));
    if (!this.#wanted) return;
    const delay = Math.min(LONGEST_DELAY, FIRST_DELAY * 1.5 ** this.#attempt);
    this.#attempt += 1;
    this.#timer = setTimeout(() => this.#connect(), delay * (1 - Math.random() * 0.2));
  }
}
