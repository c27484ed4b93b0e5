// Shared helpers: dependency lookup, counting WebSocket, random numbers, statistics, /proc readings.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
import path from "node:path";

const nodeHome = process.env.PATCHES_BENCH_NODE;
if (!nodeHome) throw new Error("set PATCHES_BENCH_NODE to the folder whose node_modules has the peers");
export const require = createRequire(path.join(nodeHome, "package.json"));
export const { WebSocket: RawWS, WebSocketServer } = require("ws");

export const wire = { in: 0, out: 0, framesIn: 0, framesOut: 0 };
// The client libraries get this class as their WebSocket; it counts payload bytes.
export class CountingWS extends RawWS {
  constructor(url, protocols, opts) {
    super(url, protocols, { perMessageDeflate: false, ...(opts ?? {}) });
    this.on("message", (d) => {
      wire.in += d.length ?? d.byteLength;
      wire.framesIn++;
    });
  }
  send(data, ...rest) {
    wire.out += typeof data === "string" ? Buffer.byteLength(data) : data.byteLength;
    wire.framesOut++;
    return super.send(data, ...rest);
  }
}
globalThis.WebSocket = CountingWS;

export function rng(seed) {
  // mulberry32
  let a = seed >>> 0;
  return () => {
    a |= 0;
    a = (a + 0x6d2b79f5) | 0;
    let t = Math.imul(a ^ (a >>> 15), 1 | a);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}
export const now = () => performance.now();
export const sleep = (ms) => new Promise((r) => setTimeout(r, ms));
export const tick = () => new Promise((r) => setImmediate(r));
export async function until(cond, ms, what) {
  const end = now() + ms;
  for (;;) {
    const v = cond();
    if (v) return v;
    if (now() > end) throw new Error("timeout: " + what);
    await sleep(1);
  }
}
export function pct(a, p) {
  if (!a.length) return null;
  const s = Float64Array.from(a).sort();
  return +s[Math.min(s.length - 1, Math.floor((s.length * p) / 100))].toFixed(3);
}
const HZ = 100;
export function procCpu(pid) {
  // seconds, user+system, all threads
  const f = readFileSync(`/proc/${pid}/stat`, "utf8");
  const v = f.slice(f.lastIndexOf(")") + 2).split(" ");
  return (+v[11] + +v[12]) / HZ;
}
export function procRss(pid) {
  // MiB
  const m = /VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, "utf8"));
  return +m[1] / 1024;
}
export function args() {
  const o = {};
  for (let i = 2; i < process.argv.length; i += 2)
    o[process.argv[i].replace(/^--/, "")] = process.argv[i + 1];
  o.params = o.params ? JSON.parse(o.params) : {};
  return o;
}
export const out = (o) => process.stdout.write(JSON.stringify(o) + "\n");
export function canon(v) {
  // order-independent JSON text
  if (Array.isArray(v)) return "[" + v.map(canon).join(",") + "]";
  if (v && typeof v === "object")
    return (
      "{" +
      Object.keys(v)
        .sort()
        .map((k) => JSON.stringify(k) + ":" + canon(v[k]))
        .join(",") +
      "}"
    );
  return JSON.stringify(v);
}

// One edit = one atomic local change. Every edit moves the author's counter, so arrival can be seen.
//   { c: [key, value], f: [key, value]|null, ins: [index, value]|null, del: index|null, t: [pos, string]|null, td: [pos,len]|null }
export function makeEdit(kind, rnd, key, seq, view) {
  const e = { c: [key, seq], f: null, ins: null, del: null, t: null, td: null };
  if (kind === "counter") return e; // disjoint paths: no transform needed
  if (kind === "text") {
    const len = view.textLen();
    if (len > 2000 && rnd() < 0.5) e.td = [Math.floor(rnd() * (len - 4)), 3];
    else e.t = [Math.floor(rnd() * (len + 1)), "abcdefgh".slice(0, 1 + Math.floor(rnd() * 3))];
  } else {
    const r = rnd();
    if (r < 0.2) {
      const n = view.listLen();
      if (n > 100) e.del = Math.floor(rnd() * n);
      else e.ins = [Math.floor(rnd() * (n + 1)), { id: key + "-" + seq, done: false }];
    } else if (r < 0.4) e.f = ["f" + Math.floor(rnd() * 10), key + "-" + seq];
  }
  return e;
}
export function initialState() {
  const s = { items: [], m: "" };
  for (let i = 0; i < 8; i++) s["c" + i] = 0;
  for (let i = 0; i < 10; i++) s["f" + i] = "";
  return s; // plus an empty text under "text", in the peer's own text type
}
// History for the cold-load workload: mostly typing in bursts, some field writes.
export function* history(n, seed = 7) {
  const rnd = rng(seed);
  let len = 0,
    cursor = 0;
  for (let i = 0; i < n; i++) {
    const r = rnd();
    const e = { c: ["c0", i + 1], f: null, ins: null, del: null, t: null, td: null };
    if (r < 0.2) e.f = ["k" + Math.floor(rnd() * 100), i];
    else {
      if (rnd() < 0.03) cursor = Math.floor(rnd() * (len + 1));
      if (rnd() < 0.15 && cursor > 2) {
        e.td = [cursor - 2, 2];
        cursor -= 2;
        len -= 2;
      } else {
        const s = "lorem ipsum".slice(0, 1 + Math.floor(rnd() * 4));
        e.t = [cursor, s];
        cursor += s.length;
        len += s.length;
      }
    }
    yield e;
  }
}
