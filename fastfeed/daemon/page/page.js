// The page: asks for the report and the history, and draws them. No libraries; loads nothing from elsewhere.
// Texts from the daemon are set as text, never as HTML: names of jobs and URLs are whatever users wrote.
"use strict";

const POLL_MS = 2000;
const SVG = "http://www.w3.org/2000/svg";
const $ = (id) => document.getElementById(id);

// --- texts ---------------------------------------------------------------------------------------------------------

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
function size(bytes) {
  let power = 0;
  while (bytes >= 1024 && power < UNITS.length - 1) { bytes /= 1024; power += 1; }
  return `${power && bytes < 100 ? bytes.toFixed(1) : Math.round(bytes)} ${UNITS[power]}`;
}
const rate = (bytes) => `${size(bytes)}/s`;
const percent = (ratio, digits = 0) => (ratio === null || ratio === undefined ? "–" : `${(100 * ratio).toFixed(digits)} %`);
const count = (number) => number.toLocaleString("en");
function span(seconds) {
  if (seconds < 1) return `${Math.round(1000 * seconds)} ms`;
  if (seconds < 120) return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  return seconds < 172800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86400)} d`;
}
const latency = (value) => (value === null ? "–" : `≤ ${span(value)}`);

// --- elements ------------------------------------------------------------------------------------------------------

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children.filter((child) => child !== null));
  return made;
}
function drawn(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}
function bar(ratio) {
  const box = drawn("svg", { class: "bar", viewBox: "0 0 100 8", preserveAspectRatio: "none", role: "img", "aria-label": percent(ratio) });
  box.append(drawn("rect", { width: 100 * Math.max(0, Math.min(1, ratio)), height: 8 }));
  return box;
}
// columns: [heading, is a number]; rows: arrays of texts and elements.
function table(id, columns, rows, none) {
  const head = element("tr", {}, ...columns.map(([text, number]) => element("th", number ? { class: "number" } : {}, text)));
  const body = rows.map((cells) => element("tr", {}, ...cells.map((cell, at) => element("td", columns[at][1] ? { class: "number" } : {}, cell))));
  if (!rows.length) body.push(element("tr", {}, element("td", { class: "none", colspan: columns.length }, none)));
  $(id).replaceChildren(head, ...body);
}
const small = (text, below) => { const box = element("div", {}, text); if (below) box.append(element("small", {}, below)); return box; };
const marked = (text, kind) => element("span", kind ? { class: kind } : {}, text);

// --- charts --------------------------------------------------------------------------------------------------------

const LEFT = 62, RIGHT = 8, TOP = 12, BOTTOM = 22;
// The upper end of an axis of bytes: a power of two.
function niceBytes(most) { let top = 1 << 20; while (top < most) top *= 2; return top; }

function chart(svg, points, stepS, nowS, spanS, top, label, series) {
  const box = svg.getBoundingClientRect();
  const width = Math.max(200, box.width), height = box.height;
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const x = (timeS) => LEFT + (width - LEFT - RIGHT) * (1 - (nowS - timeS) / spanS);
  const y = (value) => TOP + (height - TOP - BOTTOM) * (1 - value / top);
  const parts = [];
  for (const share of [0, 0.25, 0.5, 0.75, 1]) {
    const at = y(top * share);
    parts.push(drawn("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: at, y2: at }));
    if (share * 2 === Math.round(share * 2)) parts.push(drawn("text", { x: LEFT - 8, y: at + 4, "text-anchor": "end" }, label(top * share)));
  }
  for (const share of [0, 0.5, 1]) {
    const text = share === 1 ? "now" : `${span(spanS * (1 - share))} ago`;
    const anchor = share === 0 ? "start" : share === 1 ? "end" : "middle";
    parts.push(drawn("text", { x: LEFT + (width - LEFT - RIGHT) * share, y: height - 5, "text-anchor": anchor }, text));
  }
  for (const [name, values] of series) {
    let path = "", last = null;
    points.forEach((point, at) => {
      const value = values(point);
      if (value === null || point.time_s < nowS - spanS) return;
      const gap = last === null || point.time_s - last > 2.5 * stepS;
      path += `${gap ? "M" : "L"}${x(point.time_s).toFixed(1)},${y(Math.min(top, value)).toFixed(1)}`;
      if (gap) path += "h0.1";
      last = point.time_s;
    });
    if (path) parts.push(drawn("path", { class: name, d: path }));
  }
  if (!points.length) parts.push(drawn("text", { x: (width + LEFT) / 2, y: height / 2, "text-anchor": "middle" }, "the first points come in ten seconds"));
  svg.replaceChildren(...parts);
}

function sum(point, name) { return Object.values(point.pools).reduce((total, pool) => total + (pool[name] ?? 0), 0); }
function hitRatio(point) {
  const hits = sum(point, "hits_per_s"), misses = sum(point, "misses_per_s");
  return hits + misses ? hits / (hits + misses) : null;
}
// The chart spans what there is: at least five minutes, at most an hour.
function spanOf(points, nowS) {
  const oldest = points.length ? nowS - points[0].time_s : 0;
  return [300, 900, 3600].find((each) => each >= oldest) ?? 3600;
}

// --- what is shown -------------------------------------------------------------------------------------------------

function tiles(report, points) {
  const last = points.length ? points[points.length - 1] : null;
  const used = report.pools.reduce((total, pool) => total + pool.used_bytes, 0);
  const limit = report.pools.reduce((total, pool) => total + pool.limit_bytes, 0);
  const now = (name) => (last ? rate(sum(last, name)) : "–");
  const list = [
    [last ? percent(hitRatio(last), 1) : "–", "hit rate"],
    [now("slab_bytes_per_s"), "from disk"],
    [now("ring_bytes_per_s"), "from memory ring"],
    [now("origin_bytes_per_s"), "from origin"],
    [`${size(used)}`, `of ${size(limit)} used`],
    [count(report.pools.reduce((total, pool) => total + pool.clients, 0)), "clients"],
  ];
  $("tiles").replaceChildren(...list.map(([value, name]) => element("div", { class: "tile" }, element("b", {}, value), element("span", {}, name))));
}

// The share of its time that a job waited, between the last two answers.
const waits = new Map();
function waited(job, nowS) {
  const key = `${job.pool}/${job.registration}`;
  const before = waits.get(key);
  const state = { time: nowS, wait: job.exposed_wait_s, steps: job.steps, share: before?.share ?? null, speed: before?.speed ?? null, base: before?.base ?? null };
  if (!state.base) state.base = { time: nowS, wait: job.exposed_wait_s, steps: job.steps };
  else if (nowS - state.base.time >= 5) {
    const seconds = nowS - state.base.time;
    state.share = Math.min(1, Math.max(0, (job.exposed_wait_s - state.base.wait) / seconds));
    state.speed = Math.max(0, (job.steps - state.base.steps) / seconds);
    state.base = { time: nowS, wait: job.exposed_wait_s, steps: job.steps };
  }
  waits.set(key, state);
  return state;
}

function jobs(report) {
  const rows = report.pools.flatMap((pool) => pool.jobs).map((job) => {
    const state = waited(job, report.now_s);
    const progress = job.rows ? job.position / job.rows : 0;
    const kind = state.share === null ? "" : state.share > 0.2 ? "bad" : state.share > 0.05 ? "warn" : "good";
    const said = job.forecast.text ?? (job.kind === "opaque" ? "its future is not known" : "");
    return [
      small(job.name || `pid ${job.pid}`, `user ${job.uid}, pid ${job.pid}, pool ${job.pool}`),
      small(job.url, said),
      `${job.rank} of ${job.world_size}`,
      element("div", {}, bar(progress), `epoch ${count(job.epoch)}, ${percent(progress)}`),
      state.speed === null ? "–" : state.speed.toFixed(state.speed < 10 ? 1 : 0),
      marked(percent(state.share), kind),
      span(job.exposed_wait_s),
      job.idle_s > 60 ? marked(span(job.idle_s), "warn") : span(job.idle_s),
    ];
  });
  table("jobs", [["job"], ["dataset"], ["rank"], ["progress"], ["steps/s", 1], ["waiting", 1], ["waited", 1], ["last step", 1]], rows, "no job is registered");
}

function pools(report) {
  table("pools", [["pool"], ["used"], ["policy"], ["prefetched", 1], ["pinned", 1], ["misses", 1], ["evicted", 1], ["not kept", 1], ["written", 1]],
    report.pools.map((pool) => {
      const total = (counts) => Object.values(counts).reduce((sum, each) => sum + each, 0);
      const written = pool.disks.reduce((sum, disk) => sum + disk.written_bytes, 0);
      return [
        pool.name,
        element("div", {}, bar(pool.limit_bytes ? pool.used_bytes / pool.limit_bytes : 0), `${size(pool.used_bytes)} of ${size(pool.limit_bytes)}`),
        pool.policy || "–", size(pool.prefetched_bytes), size(pool.pinned_bytes), count(total(pool.fetch.misses)), count(total(pool.evictions)),
        count(total(pool.fetch.drops)), size(written),
      ];
    }), "no pool");
}

function disks(report) {
  const kinds = { ok: "good", suspect: "warn", out: "bad" };
  table("disks", [["disk"], ["state"], ["used"], ["queue", 1], ["errors", 1]],
    report.pools.flatMap((pool) => pool.disks.map((disk) => [
      small(disk.name, disk.path),
      small(marked(disk.state, kinds[disk.state] ?? "bad"), disk.reason),
      element("div", {}, bar(disk.capacity_bytes ? disk.used_bytes / disk.capacity_bytes : 0), size(disk.used_bytes)),
      count(disk.queue),
      disk.errors ? marked(count(disk.errors), "bad") : "0",
    ])), "no disk");
}

function origins(report) {
  table("origins", [["origin"], ["in flight", 1], ["p50", 1], ["p99", 1], ["retries", 1], ["failures"]],
    report.pools.flatMap((pool) => pool.origins.map((origin) => {
      const counters = origin.counters;
      const failures = [["throttled", counters.throttled], ["timed out", counters.timeouts], ["given up", counters.failures]].filter(([, number]) => number);
      return [
        small(origin.name, `${count(counters.requests)} requests, ${size(counters.read_bytes)}`),
        `${origin.in_flight} of ${origin.in_flight_max}`,
        latency(origin.latency.p50_s), latency(origin.latency.p99_s),
        count(counters.retries),
        failures.length ? marked(failures.map(([reason, number]) => `${count(number)} ${reason}`).join(", "), counters.failures ? "bad" : "warn") : "none",
      ];
    })), "no origin was asked yet");
}

function troubles(report) {
  table("troubles", [["when"], ["where"], ["what"], ["times", 1]],
    report.troubles.map((trouble) => [`${span(Math.max(0, report.now_s - trouble.time_s))} ago`, trouble.where, trouble.text, count(trouble.count)]),
    "none since the start");
}

function status(kind, text) { $("status").className = `status ${kind}`; $("status").textContent = text; }

function show(report, history) {
  status(report.status, report.status);
  $("who").textContent = `version ${report.version} · pid ${report.pid} · up ${span(report.now_s - report.started_s)} · ${report.socket}`;
  const points = history.points, spanS = spanOf(points, report.now_s);
  tiles(report, points);
  chart($("hits"), points, history.step_s, report.now_s, spanS, 1, (value) => percent(value), [["hit", hitRatio]]);
  const tiers = ["slab", "ring", "origin"];
  const most = Math.max(1, ...points.flatMap((point) => tiers.map((tier) => sum(point, `${tier}_bytes_per_s`))));
  chart($("bytes"), points, history.step_s, report.now_s, spanS, niceBytes(most), rate, tiers.map((tier) => [`line ${tier}`, (point) => sum(point, `${tier}_bytes_per_s`)]));
  jobs(report); pools(report); disks(report); origins(report); troubles(report);
  document.body.dataset.shown = String(report.now_s);
}

async function ask(path) {
  const answer = await fetch(path, { signal: AbortSignal.timeout(5000) });
  if (!answer.ok) throw new Error((await answer.text()).trim());
  return answer.json();
}

async function poll() {
  try {
    if (!document.hidden) show(...await Promise.all([ask("/api/report"), ask("/api/history")]));
  } catch (error) {
    status("gone", "no answer");
    $("who").textContent = String(error.message ?? error);
  }
  setTimeout(poll, POLL_MS);
}
poll();
