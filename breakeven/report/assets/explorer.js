// The explorer: sliders, a chart and a table that follow them. What they say is computed by engine.js.
"use strict";
(() => {
  const root = document.getElementById("explorer");
  if (!root) return;
  const model = tokenhour.prepare(JSON.parse(document.getElementById("explorer-data").textContent));
  const start = {...model.state}, state = {...model.state};
  const find = (id) => document.getElementById(id);
  const POINTS = 700, STEPS = 1000, HEIGHT = 420;
  const LINE_DASHES = [[6, 4], [2, 3], [10, 3, 2, 3], [4, 2], [14, 4], [6, 2, 2, 2, 2, 2], [3, 7]];

  const usd = (v) => {
    const digits = Math.abs(v) >= 100 ? 0 : 2;
    return `${v < 0 ? "\u2212" : ""}$${Math.abs(v).toLocaleString("en-US",
      {minimumFractionDigits: digits, maximumFractionDigits: digits})}`;
  };
  const small = (v) => `$${v >= 1 ? v.toFixed(2) : Number(v.toPrecision(3))}`;
  const percent = (v) => `${(100 * v).toFixed(v && Math.abs(v) < 0.01 ? 2 : 1)} %`;
  const count = tokenhour.humanCount;
  const times = (v) => `\u00d7${Number(v.toPrecision(3))}`;

  // Each slider: its key in the state, its ends, its scale, and how its value is said. A value that is outside widens it.
  const base = model.machine.prices[start.purchase];
  const middle = start.tokens || 1e9;
  const SLIDERS = {
    tokens: {low: middle / 1e3, high: middle * 1e3, log: true, say: (v) => `${count(v)} tokens a month`},
    prompt: {low: 1, high: Math.max(16384, 2 * start.prompt), log: true, say: (v) => `${count(v)} tokens a request`},
    output: {low: 1, high: Math.max(8192, 2 * start.output), log: true, say: (v) => `${count(v)} tokens a request`},
    cached: {low: 0, high: 1 - model.cache_write_share, say: percent},
    gpu_usd_per_hour: {low: base / 20, high: base * 20, log: true, say: (v) => `${small(v)} an hour`},
    headroom: {low: 0.05, high: 1, say: (v) => `${percent(v)} of the capacity at the objective`},
    ops_usd: {low: 0, high: Math.max(5000, 4 * start.ops_usd), say: (v) => `${usd(v)} a month`},
    engineering_usd: {low: 0, high: Math.max(20000, 4 * start.engineering_usd), say: (v) => `${usd(v)} a month`},
    api_multiple: {low: 0.05, high: 20, log: true, say: (v) => `${times(v)} today's prices`},
    api_decay: {low: -0.5, high: 0.95, say: (v) => `${percent(v)} cheaper a year`},
  };
  const toValue = (s, at) => s.log ? s.low * (s.high / s.low) ** (at / STEPS) : s.low + (s.high - s.low) * at / STEPS;
  const toPlace = (s, v) => Math.round(STEPS
    * (s.log ? Math.log(v / s.low) / Math.log(s.high / s.low) : (v - s.low) / (s.high - s.low)));

  function show(key) {
    const slider = SLIDERS[key], input = find(`x-${key}`), said = slider.say(state[key]);
    input.value = Math.min(STEPS, Math.max(0, toPlace(slider, state[key])));
    input.setAttribute("aria-valuetext", said);
    find(`o-${key}`).textContent = said;
  }

  // Okabe and Ito's palette, told apart with any colour vision; the greys follow the page's theme.
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  let ink, soft, line, own, today, shade;
  function colours() {
    [ink, soft, line, own, today, shade] = ["--ink", "--soft", "--line", "--own", "--bad", "--win"].map(css);
  }

  let chart = null, found = null, chosen = 0;

  function range() {
    const marks = [state.tokens, found.capacity, ...found.apis.flatMap((c) => [c.first, c.stable])].filter((v) => v > 0);
    const low = Math.min(...marks) / 4;
    const high = Math.max(state.tokens * 2, Math.min(Math.max(...marks, found.capacity * 4) * 2, found.capacity * 200));
    return [10 ** Math.floor(Math.log10(low)), 10 ** Math.ceil(Math.log10(high))];
  }

  function series() {
    const [low, high] = range(), x = new Array(POINTS), self = new Array(POINTS);
    for (let i = 0; i < POINTS; i++) {
      x[i] = low * (high / low) ** (i / (POINTS - 1));
      self[i] = found.best.selfHostUsd(x[i]);
    }
    return [x, self, ...found.apis.map((c) => x.map((v) => v * c.per_mtok / 1e6))];
  }

  function shadeWindows(u) {
    const {left, top, width, height} = u.bbox, right = left + width;
    const at = (v) => Math.min(right, Math.max(left, u.valToPos(v, "x", true)));
    u.ctx.save();
    u.ctx.fillStyle = shade;
    for (const [above, to] of found.apis[chosen].windows) {
      const a = at(above), b = to === null ? right : at(to);
      if (b > a) u.ctx.fillRect(a, top, b - a, height);
    }
    u.ctx.restore();
  }

  function markToday(u) {
    const {left, top, width, height} = u.bbox, x = u.valToPos(state.tokens, "x", true), ratio = uPlot.pxRatio;
    if (x < left || x > left + width) return;
    u.ctx.save();
    u.ctx.strokeStyle = u.ctx.fillStyle = today;
    u.ctx.lineWidth = 1.5 * ratio;
    u.ctx.setLineDash([]);
    u.ctx.beginPath();
    u.ctx.moveTo(x, top);
    u.ctx.lineTo(x, top + height);
    u.ctx.stroke();
    u.ctx.font = `${12 * ratio}px system-ui, sans-serif`;
    u.ctx.textAlign = x > left + width / 2 ? "right" : "left";
    u.ctx.fillText("today", x + (x > left + width / 2 ? -5 : 5) * ratio, top + 14 * ratio);
    u.ctx.restore();
  }

  function draw() {
    const data = series();
    if (chart) {
      found.apis.forEach((c, i) => { chart.series[2 + i].width = i === chosen ? 2.6 : 1.2; });
      chart.setData(data, false);
      chart.setScale("x", {min: data[0][0], max: data[0][POINTS - 1]});
      return;
    }
    const place = find("chart"), axis = {stroke: () => ink, grid: {stroke: () => line, width: 1}, ticks: {stroke: () => line}};
    const money = (v) => v === null ? "" : v >= 1 ? `$${count(v)}` : `$${Number(v.toPrecision(2))}`;
    chart = new uPlot({
      width: place.clientWidth, height: HEIGHT, legend: {show: false}, cursor: {y: false, drag: {x: false, y: false}},
      scales: {
        x: {time: false, distr: 3, range: (u, min, max) => [min, max]},
        y: {distr: 3, range: () => {
          const around = found.own_usd || 1, most = Math.max(around, ...found.apis.map((c) => c.api_usd));
          return [10 ** Math.floor(Math.log10(around / 15)), 10 ** Math.ceil(Math.log10(Math.min(most, around * 300) * 6))];
        }},
      },
      axes: [
        {...axis, label: "tokens a month, input plus output", values: (u, ticks) => ticks.map((v) => v === null ? "" : count(v))},
        {...axis, size: 64, label: "USD a month", values: (u, ticks) => ticks.map(money)},
      ],
      series: [{}, {stroke: () => own, width: 2.5, points: {show: false}},
        ...found.apis.map((c, i) => ({
          stroke: () => i === chosen ? ink : soft, width: i === chosen ? 2.6 : 1.2, dash: LINE_DASHES[i % LINE_DASHES.length], points: {show: false},
        }))],
      hooks: {drawClear: [shadeWindows], draw: [markToday], setCursor: [readAt]},
    }, data, place);
    chart.setScale("x", {min: data[0][0], max: data[0][POINTS - 1]});
    new ResizeObserver(() => chart.setSize({width: place.clientWidth, height: HEIGHT})).observe(place);
  }

  // What the pointer is on, in words.
  function readAt(u) {
    const i = u.cursor.idx;
    if (i === null || i === undefined || !u.data[0]) { find("chart-read").textContent = "\u00a0"; return; }
    const api = found.apis[chosen];
    find("chart-read").textContent =
      `${count(u.data[0][i])} tokens: own ${usd(u.data[1][i])}, ${api.name} ${usd(u.data[2 + chosen][i])}`;
  }

  const outcomes = {never: "never", beyond_capacity: "beyond the fleet limit"};
  function windowsIn(c) {
    if (!c.windows.length) return outcomes[c.outcome];
    const said = c.windows.slice(0, 3).map(([a, b]) => b === null ? `above ${count(a)}` : `${count(a)}\u2013${count(b)}`);
    return said.join(", ") + (c.windows.length > 3 ? `, \u2026 for good above ${c.stable === null ? "the limit" : count(c.stable)}` : "");
  }

  function table() {
    find("x-rows").replaceChildren(...found.apis.map((c, i) => {
      const row = document.createElement("tr"), path = c.projection;
      const payback = path.payback === null ? `not in ${model.horizon_months} months`
        : `month ${path.payback}${path.reverts ? `, reverts in ${path.reverts}` : ""}`;
      const cells = [c.name, usd(c.api_usd), usd(c.saving_usd), windowsIn(c), c.utilization === null ? "\u2013" : percent(c.utilization),
        payback, c.hybrid.base ? `${c.hybrid.base} own, ${percent(c.hybrid.overflow)} by API: ${usd(c.hybrid.usd)}` : `all by API: ${usd(c.hybrid.usd)}`];
      row.append(...cells.map((text, k) => {
        const cell = document.createElement(k ? "td" : "th");
        if (!k) cell.scope = "row";
        else if (k < 3) cell.className = "n";
        if (!k && model.anchors) {
          const link = document.createElement("a");
          link.href = `#${model.anchors[i]}`;
          link.textContent = text;
          cell.append(link);
        } else cell.textContent = text;
        return cell;
      }));
      if (i === chosen) row.className = "chosen";
      return row;
    }));
  }

  function say() {
    const idle = Math.max(0, found.own_usd - found.busy_usd);
    find("x-sentence").textContent = found.sentence;
    find("x-own").textContent = usd(found.own_usd);
    find("x-busy").textContent = `${usd(idle)} of it is not tokens: idle time, spares, people`;
    find("x-use").textContent = found.utilization === null ? "\u2013" : percent(found.utilization);
    find("x-replicas").textContent = `${found.replicas} replica${found.replicas === 1 ? "" : "s"} at the peak, ${found.run}`;
    find("x-capacity").textContent = `${count(found.capacity)}`;
    const c = found.apis[chosen];
    find("chart").setAttribute("aria-label",
      `Monthly cost against volume. Own: ${usd(found.own_usd)} today; ${c.name}: ${usd(c.api_usd)}. Own is cheaper: ${windowsIn(c)}.`);
    const full = model.apis.filter((a) => state.cached > 0 && tokenhour.billsInFull(model, state, a)).map((a) => `${a.model} (${a.host})`);
    find("x-note").textContent = full.length ? `No price for cached input, billed in full: ${full.join(", ")}.` : "";
  }

  let waiting = false, speaking = 0;
  function update() {
    waiting = false;
    const began = performance.now();
    found = tokenhour.answer(model, state);
    say();
    table();
    draw();
    root.dataset.updateMs = String(performance.now() - began);
    // A screen reader hears the verdict when the slider rests, not at every step.
    clearTimeout(speaking);
    speaking = setTimeout(() => { find("x-spoken").textContent = found.sentence; }, 600);
  }
  function later() {
    if (!waiting) { waiting = true; requestAnimationFrame(update); }
  }

  for (const [key, slider] of Object.entries(SLIDERS)) {
    slider.low = Math.min(slider.low, state[key] || slider.low);
    slider.high = Math.max(slider.high, state[key]);
    find(`x-${key}`).addEventListener("input", (event) => {
      state[key] = toValue(slider, Number(event.target.value));
      const said = slider.say(state[key]);
      event.target.setAttribute("aria-valuetext", said);
      find(`o-${key}`).textContent = said;
      later();
    });
    show(key);
  }
  if (model.classes.length) for (const key of ["prompt", "output"]) find(`x-${key}`).disabled = true;

  const names = {on_demand: "on demand", spot: "spot", reserved_1y: "reserved, 1 year", reserved_3y: "reserved, 3 years", owned: "owned"};
  find("x-purchase").append(...Object.entries(model.machine.prices).map(([key, v]) =>
    new Option(`${names[key]}: ${small(v)} an hour`, key, key === state.purchase, key === state.purchase)));
  find("x-purchase").addEventListener("change", (event) => {
    state.purchase = event.target.value;
    state.gpu_usd_per_hour = model.machine.prices[state.purchase];
    show("gpu_usd_per_hour");
    later();
  });
  find("x-api").append(...model.apis.map((a, i) => new Option(`${a.model} (${a.host})`, i)));
  find("x-api").addEventListener("change", (event) => { chosen = Number(event.target.value); later(); });
  find("x-reset").addEventListener("click", () => {
    Object.assign(state, start);
    for (const key of Object.keys(SLIDERS)) show(key);
    find("x-purchase").value = state.purchase;
    later();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { colours(); if (chart) chart.redraw(); });

  colours();
  found = tokenhour.answer(model, state);
  const cheapest = found.apis.reduce((a, c, i) => c.api_usd < found.apis[a].api_usd ? i : a, 0);
  chosen = cheapest;
  find("x-api").value = String(chosen);
  root.hidden = false;
  update();
  // For the tests: the same engine on any state.
  window.tokenhourAnswer = (changes) => tokenhour.answer(model, {...start, ...changes});
})();
