// ShareDB with ot-json1 (which embeds ot-text-unicode). MemoryDB, as shipped.
import {
  CountingWS,
  WebSocketServer,
  RawWS,
  require,
  initialState,
  until,
  sleep,
} from "./common.mjs";
import { Duplex } from "node:stream";
const lib = require("ot-json1");
// the plain transform throws on write conflicts; this is the variant that resolves them (left wins)
const json1 = { type: { ...lib.type, transform: lib.type.transformNoConflict } };
const init = () => ({ ...initialState(), text: "" });

class WSStream extends Duplex {
  // object stream over one websocket, as ShareDB's documentation asks for
  constructor(ws) {
    super({ objectMode: true });
    this.ws = ws;
    ws.on("message", (d) => {
      let m;
      try {
        m = JSON.parse(d.toString());
      } catch {
        return ws.close();
      }
      this.push(m);
    });
    ws.on("close", () => {
      this.push(null);
      this.destroy();
    });
  }
  _read() {}
  _write(m, _e, cb) {
    if (this.ws.readyState === 1) this.ws.send(JSON.stringify(m));
    cb();
  }
  _final(cb) {
    this.ws.close();
    cb();
  }
}
export async function startServer({ port }) {
  const ShareDB = require("sharedb");
  ShareDB.types.register(json1.type);
  const backend = new ShareDB({ doNotForwardSendPresenceErrorsToClient: true });
  const wss = new WebSocketServer({ port, host: "127.0.0.1", perMessageDeflate: false });
  wss.on("connection", (ws) => backend.listen(new WSStream(ws)));
  await new Promise((r) => wss.on("listening", r));
  return {
    port: wss.address().port,
    async seed(docId, edits) {
      const doc = backend.connect().get("docs", docId);
      await new Promise((r, j) =>
        doc.create(
          { ...init(), ...Object.fromEntries(Array.from({ length: 100 }, (_, i) => ["k" + i, 0])) },
          json1.type.uri,
          (e) => (e ? j(e) : r()),
        ),
      ); // json1 replaces only what exists
      let last;
      for (const e of edits) {
        last = new Promise((r, j) => doc.submitOp(toOp(e), { source: 1 }, (x) => (x ? j(x) : r())));
        await last;
      }
      doc.connection.close();
    },
  };
}
export function toOp(e) {
  // keys in ascending order: c* < f*/k* < items < text
  const parts = [[e.c[0], { r: true, i: e.c[1] }]];
  if (e.f) parts.push([e.f[0], { r: true, i: e.f[1] }]);
  if (e.ins) parts.push(["items", e.ins[0], { i: e.ins[1] }]);
  if (e.del !== null) parts.push(["items", e.del, { r: true }]);
  if (e.t) parts.push(["text", { es: e.t[0] ? [e.t[0], e.t[1]] : [e.t[1]] }]);
  if (e.td) parts.push(["text", { es: e.td[0] ? [e.td[0], { d: e.td[1] }] : [{ d: e.td[1] }] }]);
  parts.sort((a, b) => (a[0] < b[0] ? -1 : 1));
  return parts.length === 1 ? parts[0] : parts;
}
export async function createClient({ url }) {
  const Client = require("sharedb/lib/client");
  Client.types.register(json1.type);
  let ws = new CountingWS(url);
  const con = new Client.Connection(ws);
  await until(() => con.state === "connected", 10000, "sharedb connect");
  return {
    async open(docId) {
      const doc = con.get("docs", docId);
      await new Promise((r, j) => doc.subscribe((e) => (e ? j(e) : r())));
      doc.on("error", (e) => process.env.DEBUG && console.error(e));
      return {
        raw: doc,
        init: () =>
          new Promise((r, j) => doc.create(init(), json1.type.uri, (e) => (e ? j(e) : r()))),
        ready: () => doc.data !== undefined && !doc.hasWritePending(),
        edit: (e) =>
          doc.submitOp(toOp(e), { source: true }, (x) => {
            if (x && process.env.DEBUG) console.error(x);
          }),
        get: (k) => doc.data?.[k],
        listLen: () => doc.data.items.length,
        textLen: () => doc.data.text.length,
        onUpdate: (cb) => {
          doc.on("op", cb);
          doc.on("create", cb);
        },
        pending: () => doc.hasWritePending(),
        state: () => doc.data,
      };
    },
    offline: async () => {
      ws.close();
      await until(() => con.state !== "connected", 5000, "off");
    },
    online: async () => {
      ws = new CountingWS(url);
      con.bindToSocket(ws);
    },
    close: () => con.close(),
  };
}
export function rawSubscribe(base, docId) {
  return new Promise((res, rej) => {
    const ws = new RawWS(base, { perMessageDeflate: false });
    ws.on("error", rej);
    ws.on("open", () =>
      ws.send(JSON.stringify({ a: "hs", id: null, protocol: 1, protocolMinor: 1 })),
    );
    const h = (d) => {
      const m = JSON.parse(d.toString());
      if (m.a === "hs") ws.send(JSON.stringify({ a: "s", c: "docs", d: docId, v: null }));
      else if (m.a === "s") {
        ws.off("message", h);
        res(ws);
      }
    };
    ws.on("message", h);
  });
}
export async function rawOpenDocs(base, ids) {
  const c = await createClient({ url: base });
  for (const d of ids) {
    const doc = await c.open(d);
    await doc.init();
  }
  return c;
}
