// Generic load driver for JavaScript clients. One process holds all clients of one workload.
//   node load.mjs --client sharedb|hocuspocus --url ws://127.0.0.1:PORT --workload W1 --params '{...}'
import {
  args,
  out,
  rng,
  now,
  sleep,
  tick,
  until,
  pct,
  procCpu,
  procRss,
  wire,
  makeEdit,
  canon,
} from "./common.mjs";
const a = args();
const P = a.params;
const url = a.url;
const pid = P.pid;
const mod = await import(`./${a.client}.mjs`);
const connect = () => mod.createClient({ url });
const cpu0 = () => ({ s: procCpu(pid), c: procCpu(process.pid), t: now(), w: { ...wire } });
const usage = (b, n) => ({
  server_cpu_s_per_1000: +(((procCpu(pid) - b.s) * 1000) / n).toFixed(4),
  client_cpu_s_per_1000: +(((procCpu(process.pid) - b.c) * 1000) / n).toFixed(4),
  bytes_per_commit: Math.round((wire.in - b.w.in + wire.out - b.w.out) / n),
  frames_per_commit: +((wire.framesIn - b.w.framesIn + wire.framesOut - b.w.framesOut) / n).toFixed(
    2,
  ),
  server_rss_mb: +procRss(pid).toFixed(1),
});

let wake = null; // the loop sleeps until an update arrives somewhere (or 2 ms pass), so client CPU is the libraries' own
const idle = () =>
  new Promise((r) => {
    const t = setTimeout(() => {
      wake = null;
      r();
    }, 2);
    wake = () => {
      wake = null;
      clearTimeout(t);
      setImmediate(r);
    };
  });
// Each document has writers[]; a writer knows its own key, what it sent, and what every other writer has seen of it.
class Writer {
  constructor(slot, doc, kind, seed) {
    this.key = "c" + slot;
    this.doc = doc;
    this.kind = kind;
    this.rnd = rng(seed);
    this.seq = 0;
    this.t = [0];
    this.others = [];
    this.seen = new Map();
  }
  link(others, lat) {
    this.others = others.filter((o) => o !== this);
    for (const o of this.others) this.seen.set(o, 0);
    this.doc.onUpdate(() => {
      const n = now();
      for (const o of this.others) {
        const v = this.doc.get(o.key) ?? 0;
        const s = this.seen.get(o);
        if (v > s) {
          for (let i = s + 1; i <= v; i++) lat.push(n - o.t[i]);
          this.seen.set(o, v);
        }
      }
      wake?.();
    });
  }
  arrived() {
    let m = this.seq;
    for (const o of this.others) {
      const s = o.seen.get(this);
      if (s < m) m = s;
    }
    return m;
  }
  outstanding() {
    return this.others.length ? this.seq - this.arrived() : this.doc.pending() ? 1 : 0;
  }
  edit() {
    const e = makeEdit(this.kind, this.rnd, this.key, ++this.seq, this.doc);
    this.t.push(now());
    this.doc.edit(e);
  }
}
const done = (ws) => ws.every((w) => w.outstanding() === 0 && !w.doc.pending());

async function W1() {
  const { k = 4, kind = "json", window = 16, secs = 4, rate = 0, doc = "w1" } = P;
  const clients = [];
  const docs = [];
  for (let i = 0; i < k; i++) {
    const c = await connect();
    clients.push(c);
    const d = await c.open(doc);
    if (i === 0) {
      await d.init();
    }
    await until(() => d.ready(), 10000, "ready");
    docs.push(d);
  }
  const lat = [];
  const ws = docs.map((d, i) => new Writer(i, d, kind, 100 + i));
  ws.forEach((w) => w.link(ws, lat));
  const b = cpu0();
  const end = b.t + secs * 1000;
  let i = 0;
  while (now() < end) {
    let did = 0;
    if (rate) {
      const due = Math.floor(((now() - b.t) / 1000) * rate);
      for (const w of ws)
        if (w.seq < due && w.outstanding() < 500) {
          w.edit();
          did++;
        }
      if (!did) await sleep(1);
      else await tick();
      continue;
    }
    for (const w of ws)
      if (w.outstanding() < window) {
        w.edit();
        did++;
      }
    if (did) await tick();
    else await idle();
  }
  let drained = true;
  await until(() => done(ws), 15000, "drain").catch(() => {
    drained = false;
  });
  const t = (now() - b.t) / 1000;
  const n = ws.reduce((s, w) => s + w.seq, 0);
  const u = usage(b, n);
  await sleep(50);
  const st = docs.map((d) => canon(d.state()));
  const converged = st.every((x) => x === st[0]);
  out({
    commits: n,
    secs: +t.toFixed(2),
    commits_per_s: Math.round(n / t),
    p50_ms: pct(lat, 50),
    p99_ms: pct(lat, 99),
    ...u,
    drained,
    converged,
  });
}
async function W2() {
  const { conns = 50, ndocs = 200, window = 2, secs = 4, kind = "json" } = P;
  const clients = await Promise.all(Array.from({ length: conns }, connect));
  const lat = [];
  const all = [];
  const per = Array.from({ length: conns }, () => []);
  for (let d = 0; d < ndocs; d++) {
    const i = d % conns;
    let j = (d * 7 + 13) % conns;
    if (j === i) j = (j + 1) % conns;
    const A = await clients[i].open("d" + d);
    await A.init();
    await until(() => A.ready(), 10000, "ready");
    const B = await clients[j].open("d" + d);
    await until(() => B.ready(), 10000, "ready");
    const pair = [new Writer(0, A, kind, d), new Writer(1, B, kind, d + 1000)];
    pair.forEach((w) => w.link(pair, lat));
    all.push(pair);
    per[i].push(pair[0]);
    per[j].push(pair[1]);
  }
  const r = rng(5);
  const b = cpu0();
  const end = b.t + secs * 1000;
  const open = per.map(() => new Set());
  while (now() < end) {
    let did = 0;
    for (let c = 0; c < conns; c++) {
      for (const w of open[c]) if (w.outstanding() === 0) open[c].delete(w);
      if (open[c].size < window && per[c].length) {
        const w = per[c][Math.floor(r() * per[c].length)];
        if (w.outstanding() === 0) {
          w.edit();
          did++;
          open[c].add(w);
        }
      }
    }
    if (did) await tick();
    else await idle();
  }
  const flat = all.flat();
  let drained = true;
  await until(() => done(flat), 15000, "drain").catch(() => {
    drained = false;
  });
  const t = (now() - b.t) / 1000;
  const n = flat.reduce((s, w) => s + w.seq, 0);
  const u = usage(b, n);
  const converged = all.every(([x, y]) => canon(x.doc.state()) === canon(y.doc.state()));
  out({
    commits: n,
    commits_per_s: Math.round(n / t),
    p50_ms: pct(lat, 50),
    p99_ms: pct(lat, 99),
    ...u,
    drained,
    converged,
  });
}
async function W3() {
  const { subs = 100, rounds = 30, burst = 100, doc = "w3" } = P;
  const c = await connect();
  const d = await c.open(doc);
  await d.init();
  await until(() => d.ready(), 10000, "ready");
  const socks = [];
  for (let i = 0; i < subs; i += 25)
    socks.push(
      ...(await Promise.all(
        Array.from({ length: Math.min(25, subs - i) }, () => mod.rawSubscribe(url, doc)),
      )),
    );
  await sleep(200);
  let mark = null,
    left = 0,
    res = null,
    frames = 0;
  for (const s of socks) {
    s._last = null;
    s.on("message", (m) => {
      frames++;
      if (mark && s._last !== mark && m.includes(mark)) {
        s._last = mark;
        if (--left === 0) res();
      }
    });
  }
  const round = (n, from) =>
    new Promise((r) => {
      left = socks.length;
      mark = "MARK" + String(from + n).padStart(6, "0");
      res = r;
      for (let i = 1; i <= n; i++)
        d.edit({
          c: ["c0", from + i],
          f: ["m", "MARK" + String(from + i).padStart(6, "0")],
          ins: null,
          del: null,
          t: null,
          td: null,
        });
    });
  let seq = 0;
  for (let i = 0; i < 5; i++) {
    await round(1, seq);
    seq++;
  }
  const b = cpu0();
  const ts = [];
  for (let i = 0; i < rounds; i++) {
    const t = now();
    await round(1, seq);
    seq++;
    ts.push(now() - t);
    await until(() => !d.pending(), 5000, "ack");
  }
  const one = usage(b, rounds * subs);
  // a stream of single edits, one every turn of the loop, each delivered to all
  const b2 = cpu0();
  frames = 0;
  const t2 = now();
  for (let i = 0; i < burst; i++) {
    await round(1, seq);
    seq++;
  }
  const s2 = (now() - t2) / 1000;
  const u2 = usage(b2, burst * subs);
  out({
    subs,
    one_to_all_p50_ms: pct(ts, 50),
    one_to_all_p99_ms: pct(ts, 99),
    deliveries_per_s: Math.round((burst * subs) / s2),
    server_us_per_delivery: +(u2.server_cpu_s_per_1000 * 1000).toFixed(2),
    server_rss_mb: u2.server_rss_mb,
  });
}
async function W4() {
  // cold open of a seeded document (the server was just restarted), and one more change
  const { doc = "w4" } = P;
  const rss0 = procRss(pid);
  const b = cpu0();
  const c = await connect();
  const tc = now();
  const d = await c.open(doc);
  await until(() => d.ready() && d.get("c0") === P.n, 60000, "open");
  const open = now() - tc;
  const bytes = wire.in;
  const c2 = await connect();
  const tw = now();
  const d2 = await c2.open(doc);
  await until(() => d2.ready() && d2.get("c0") === P.n, 60000, "open2");
  const warm = now() - tw;
  const te = now();
  d.edit({ c: ["c0", P.n + 1], f: null, ins: null, del: null, t: [0, "x"], td: null });
  await until(() => d2.get("c0") === P.n + 1 && !d.pending(), 20000, "edit");
  out({
    n: P.n,
    cold_open_ms: +open.toFixed(1),
    warm_open_ms: +warm.toFixed(1),
    next_edit_ms: +(now() - te).toFixed(2),
    open_bytes: bytes,
    server_cpu_s: +(procCpu(pid) - b.s).toFixed(2),
    server_rss_before_mb: +rss0.toFixed(1),
    server_rss_after_mb: +procRss(pid).toFixed(1),
    client_rss_mb: +procRss(process.pid).toFixed(1),
    text_len: d.textLen(),
  });
}
async function W7() {
  const { conns = 300, ndocs = 1000 } = P;
  const c = await connect();
  const d = await c.open("w7");
  await d.init();
  await until(() => d.ready(), 10000, "ready");
  await sleep(300);
  const r0 = procRss(pid);
  const socks = [];
  for (let i = 0; i < conns; i += 25)
    socks.push(
      ...(await Promise.all(Array.from({ length: 25 }, () => mod.rawSubscribe(url, "w7")))),
    );
  await sleep(500);
  const r1 = procRss(pid);
  const k = await mod.rawOpenDocs(
    url,
    Array.from({ length: ndocs }, (_, i) => "m" + i),
    opt,
  );
  await sleep(500);
  const r2 = procRss(pid);
  out({
    kib_per_idle_connection: +(((r1 - r0) * 1024) / conns).toFixed(1),
    kib_per_open_doc: +(((r2 - r1) * 1024) / ndocs).toFixed(1),
    base_rss_mb: +r0.toFixed(1),
  });
}
async function W8() {
  const { pend = 1000, foreign = 1000, kind = "mixed", limit = 60000 } = P;
  const A = await connect(),
    B = await connect();
  const da = await A.open("w8");
  await da.init();
  await until(() => da.ready(), 10000, "ready");
  const db = await B.open("w8");
  await until(() => db.ready(), 10000, "ready");
  await A.offline();
  const ra = rng(1),
    rb = rng(2);
  let sa = 0,
    sb = 0;
  const tl = now();
  for (let i = 0; i < pend; i++) {
    da.edit(makeEdit(i % 2 ? "text" : "json", ra, "c0", ++sa, da));
    if (i % 50 === 49) await tick();
  }
  await sleep(50);
  const localMs = now() - tl - 50;
  for (let i = 0; i < foreign; i++) {
    db.edit(makeEdit(i % 2 ? "text" : "json", rb, "c1", ++sb, db));
    if (i % 10 === 9) await sleep(1);
  }
  await until(() => !db.pending(), 30000, "foreign");
  await sleep(300);
  const w0 = { ...wire };
  const b = cpu0();
  let ok = true;
  const t = now();
  await A.online();
  await until(
    () => da.get("c1") === sb && db.get("c0") === sa && !da.pending(),
    limit,
    "converge",
  ).catch(() => {
    ok = false;
  });
  const ms = now() - t;
  await sleep(100);
  out({
    pend,
    foreign,
    ok,
    converge_ms: +ms.toFixed(0),
    offline_edit_ms: +localMs.toFixed(0),
    bytes_both_clients: wire.in - w0.in + wire.out - w0.out,
    frames: wire.framesIn - w0.framesIn + wire.framesOut - w0.framesOut,
    server_cpu_s: +(procCpu(pid) - b.s).toFixed(2),
    client_cpu_s: +(procCpu(process.pid) - b.c).toFixed(2),
    converged: canon(da.state()) === canon(db.state()),
  });
}
const W = { W1, W2, W3, W4, W7, W8 };
try {
  await W[a.workload]();
  process.exit(0);
} catch (e) {
  out({ error: String(e.message ?? e) });
  if (process.env.DEBUG) console.error(e);
  process.exit(1);
}
