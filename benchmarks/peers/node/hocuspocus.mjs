// Yjs documents behind a Hocuspocus server, and clients with its provider.
import {
  CountingWS,
  RawWS,
  require,
  initialState,
  until,
  sleep,
} from "./common.mjs";
import { readFileSync, writeFileSync, existsSync } from "node:fs";
const Y = require("yjs");

function fill(d) {
  d.transact(() => {
    const m = d.getMap("root");
    const s = initialState();
    for (const k of Object.keys(s)) if (k !== "items") m.set(k, s[k]);
  });
}
function apply(d, e) {
  d.transact(() => {
    const m = d.getMap("root");
    m.set(e.c[0], e.c[1]);
    if (e.f) m.set(e.f[0], e.f[1]);
    if (e.ins) d.getArray("items").insert(e.ins[0], [e.ins[1]]);
    if (e.del !== null) d.getArray("items").delete(e.del, 1);
    if (e.t) d.getText("text").insert(e.t[0], e.t[1]);
    if (e.td) d.getText("text").delete(e.td[0], e.td[1]);
  });
}
function seeded(edits) {
  const d = new Y.Doc();
  fill(d);
  for (const e of edits) apply(d, e);
  return d;
}

export async function startServer({ port, dir, durable }) {
  const { Server } = require("@hocuspocus/server");
  const file = (name) => `${dir}/hocuspocus-${name}.bin`;
  const server = new Server({
    port,
    address: "127.0.0.1",
    quiet: true,
    debounce: 200,
    maxDebounce: 1000,
    timeout: 60000,
    async onLoadDocument({ documentName, document }) {
      if (durable && existsSync(file(documentName)))
        Y.applyUpdate(document, readFileSync(file(documentName)));
      return document;
    },
    async onStoreDocument({ documentName, document }) {
      if (durable) writeFileSync(file(documentName), Y.encodeStateAsUpdate(document));
    },
  });
  await server.listen();
  return {
    port: server.address.port ?? server.httpServer.address().port,
    seed: async (id, edits) => writeFileSync(file(id), Y.encodeStateAsUpdate(seeded(edits))),
  };
}
function docApi(d, isSynced, pending) {
  return {
    raw: d,
    init: async () => fill(d),
    ready: () => isSynced() && d.getMap("root").get("c0") !== undefined,
    edit: (e) => apply(d, e),
    get: (k) => d.getMap("root").get(k),
    listLen: () => d.getArray("items").length,
    textLen: () => d.getText("text").length,
    onUpdate: (cb) => d.on("afterTransaction", cb),
    pending,
    state: () => ({
      ...d.getMap("root").toJSON(),
      items: d.getArray("items").toJSON(),
      text: d.getText("text").toString(),
    }),
  };
}
export async function createClient({ url }) {
  const providers = [];
  const { HocuspocusProvider, HocuspocusProviderWebsocket } = require("@hocuspocus/provider");
  const websocketProvider = new HocuspocusProviderWebsocket({
    url,
    WebSocketPolyfill: CountingWS,
    quiet: true,
    minDelay: 50,
    delay: 50,
  });
  return {
    async open(id) {
      const d = new Y.Doc();
      const p = new HocuspocusProvider({
        websocketProvider,
        name: id,
        document: d,
        token: "x",
        forceSyncInterval: false,
        awareness: null,
      });
      p.attach?.();
      providers.push(p);
      const synced = () => p.synced ?? p.isSynced;
      await until(synced, 15000, "hocuspocus sync");
      return docApi(d, synced, () => p.unsyncedChanges > 0);
    },
    offline: async () => {
      websocketProvider.disconnect();
      await sleep(30);
    },
    online: async () => {
      await websocketProvider.connect();
    },
    close: () => {
      providers.forEach((p) => p.destroy());
      websocketProvider.destroy();
    },
  };
}
export function rawSubscribe(base, docId) {
  return new Promise((res, rej) => {
    const ws = new RawWS(base, { perMessageDeflate: false });
    ws.on("error", rej);
    const enc = require("lib0/dist/encoding.cjs");
    ws.on("open", () => {
      const auth = enc.createEncoder();
      enc.writeVarString(auth, docId);
      enc.writeVarUint(auth, 2);
      enc.writeVarUint(auth, 0);
      enc.writeVarString(auth, "x");
      ws.send(enc.toUint8Array(auth));
      const step = enc.createEncoder();
      enc.writeVarString(step, docId);
      enc.writeVarUint(step, 0);
      enc.writeVarUint(step, 0);
      enc.writeVarUint8Array(step, new Uint8Array([0]));
      ws.send(enc.toUint8Array(step));
      setTimeout(() => res(ws), 30);
    });
  });
}
export async function rawOpenDocs(base, ids) {
  const c = await createClient({ url: base });
  for (const id of ids) {
    const d = await c.open(id);
    await d.init();
  }
  return c;
}
