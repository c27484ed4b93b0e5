// One server process for one peer. Prints {"ready":true,"port":N} and stays up until killed.
//   node serve.mjs --server sharedb|hocuspocus --params '{"dir":..., "durable":bool, "seed":{"doc":..,"n":..}}'
import { args, out, history, now } from "./common.mjs";
const a = args();
const p = a.params;
const mod = await import(`./${a.server}.mjs`);
const srv = await mod.startServer({ port: +(a.port ?? 0), ...p });
let seedMs = 0;
if (p.seed) {
  const t = now();
  await srv.seed(p.seed.doc, history(p.seed.n));
  seedMs = now() - t;
}
out({ ready: true, port: srv.port, pid: process.pid, seed_ms: +seedMs.toFixed(0) });
