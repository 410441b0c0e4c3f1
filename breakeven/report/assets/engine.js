// The break-even engine of the page. It computes nothing of its own: every function repeats the Python function that its comment
// names, in the same order of operations, and tests/browser compares the two on random scenarios.
"use strict";
const tokenhour = (() => {
  const HOURS_PER_MONTH = 730, SECONDS_PER_HOUR = 3600, MTOK = 1e6, LISTED = 50, TOUCHING = 1e-12, HYBRID_GAIN = 0.01;

  // numpy.nextafter(x, inf), x >= 0
  function after(x) {
    const bits = new BigInt64Array(1), view = new Float64Array(bits.buffer);
    view[0] = x;
    bits[0] += 1n;
    return view[0];
  }

  // numpy.searchsorted
  function search(sorted, value, right) {
    let low = 0, high = sorted.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (right ? sorted[middle] <= value : sorted[middle] < value) low = middle + 1; else high = middle;
    }
    return low;
  }

  const mean = (values) => values.reduce((sum, v) => sum + v, 0) / values.length;

  // breakeven.fleet.ahead
  function ahead(weights, hours) {
    const n = weights.length, found = Array.from(weights);
    for (let step = 1; step <= Math.min(Math.floor(hours), n - 1); step++) {
      for (let t = 0; t < n; t++) found[t] = Math.max(found[t], weights[(t + step) % n]);
    }
    return found;
  }

  // breakeven.fleet._steps
  function steps(planned, rules, bootH) {
    const n = planned.length, counts = new Map(), starts = new Map();
    for (const w of planned) counts.set(w, (counts.get(w) || 0) + 1);
    const levels = [...counts.keys()].sort((a, b) => a - b);
    for (const w of levels) starts.set(w, 0);
    for (let t = 0; t < n; t++) {
      const before = planned[(t + n - 1) % n], now = planned[t];
      if (now > before) {
        starts.set(now, starts.get(now) + 1);
        starts.set(before, starts.get(before) - 1);
      }
    }
    const limit = rules.max_replicas / Math.max(...planned);
    const points = [], hours = [], begun = [];
    for (const w of levels) {
      if (w <= 0) continue;
      const count = Math.ceil(w * limit - 1e-9);
      for (let k = 0; k < count; k++) {
        const counted = k + 1 + rules.redundancy > rules.min_replicas ? 1 : 0;
        points.push(k / w);
        hours.push(counts.get(w) * counted);
        begun.push(starts.get(w) * counted);
      }
    }
    const order = Uint32Array.from(points.keys()).sort((a, b) => points[a] - points[b] || a - b);
    const idle = Math.max(rules.redundancy, rules.min_replicas);
    const edges = [], months = [];
    let sumHours = 0, sumBegun = 0;
    for (let i = 0; i < order.length; i++) {
      sumHours += hours[order[i]];
      sumBegun += begun[order[i]];
      const end = i + 1 < order.length ? points[order[i + 1]] : limit;
      if (end > points[order[i]]) {
        edges.push(end);
        months.push(idle + (sumHours + bootH * sumBegun) / n);
      }
    }
    return {edges: Float64Array.from(edges), months: Float64Array.from(months)};
  }

  // breakeven.fleet.Curve
  class Curve {
    constructor(rules, weights) {
      this.rules = rules;
      this.weights = weights;
      this.peak = Math.max(...weights);
      this.coldStartH = rules.cold_start_s / SECONDS_PER_HOUR;
      this.planned = rules.autoscale ? ahead(weights, this.coldStartH) : [this.peak];
      Object.assign(this, steps(this.planned, rules, rules.autoscale ? this.coldStartH : 0));
      const n = this.planned.length, boot = rules.autoscale ? this.coldStartH / n : 0;
      const rises = this.planned.map((w, t) => Math.max(w - this.planned[(t + n - 1) % n], 0));
      this.slope = mean(this.planned) + boot * rises.reduce((a, b) => a + b, 0);
      this.slack = 1 + Math.max(rules.redundancy, rules.min_replicas) + boot * rises.filter((r) => r > 0).length;
      this.plain = !rules.autoscale && rules.min_replicas <= 1 + rules.redundancy;
    }

    hourly(u) {
      return this.planned.map((w) => Math.max(Math.ceil(u * w) + this.rules.redundancy, this.rules.min_replicas));
    }

    // Curve.replica_months of one volume
    months_(u) {
      const {redundancy, min_replicas, autoscale} = this.rules;
      if (!autoscale) return Math.max(Math.ceil(u * this.peak) + redundancy, min_replicas);
      if (u <= 0) return Math.max(redundancy, min_replicas);
      if (u <= this.edges[this.edges.length - 1]) return this.months[search(this.edges, u, false)];
      const n = this.hourly(u), size = n.length;
      const starts = n.reduce((sum, v, t) => sum + Math.max(v - n[(t + size - 1) % size], 0), 0);
      return mean(n) + this.coldStartH / size * starts;
    }
  }

  // breakeven.crossings._joined
  function joined(windows) {
    const found = [];
    for (const [above, to] of windows) {
      if (to !== null && above >= to) continue;
      const before = found.length ? found[found.length - 1][1] : null;
      if (before !== null && above <= before * (1 + TOUCHING)) found[found.length - 1][1] = to; else found.push([above, to]);
    }
    return found;
  }

  // breakeven.crossings.solve
  function closedForm(replicaUsd, replicaTokens, fixedUsd, redundancy, price, maxReplicas) {
    const onset = (step) =>
      Math.max((fixedUsd + replicaUsd * (step + redundancy)) / price, (step - 1) * replicaTokens);
    const margin = price * replicaTokens - replicaUsd;
    const none = {windows: [], first: null, stable: null};
    if (margin <= 0) return {...none, outcome: "never", replicas: null};
    const spare = fixedUsd + replicaUsd * redundancy;
    let firstStep = Math.floor(spare / margin) + 1;
    while (firstStep <= maxReplicas && onset(firstStep) >= firstStep * replicaTokens) firstStep += 1;
    const stableStep = Math.max(firstStep, Math.ceil((spare + replicaUsd) / margin));
    if (firstStep > maxReplicas) return {...none, outcome: "beyond_capacity", replicas: firstStep};
    const first = onset(firstStep), lasting = stableStep <= maxReplicas;
    const last = Math.min(lasting ? stableStep : maxReplicas + 1, firstStep + (lasting ? LISTED - 1 : LISTED));
    const closed = [];
    for (let n = firstStep; n < last; n++) closed.push([onset(n), n * replicaTokens]);
    if (!lasting) return {windows: joined(closed), first, stable: null, outcome: "first", replicas: firstStep};
    const windows = joined([...closed, [onset(stableStep), null]]), stable = windows[windows.length - 1][0];
    return {windows, first, stable, outcome: first < stable ? "first" : "stable", replicas: firstStep};
  }

  // breakeven.steps.solve
  function crossings(curve, replicaUsd, replicaTokens, fixedUsd, price) {
    if (curve.plain) {
      return closedForm(replicaUsd, replicaTokens / curve.peak, fixedUsd, curve.rules.redundancy, price,
        curve.rules.max_replicas);
    }
    const worth = price * replicaTokens / replicaUsd, fixed = fixedUsd / replicaUsd, {edges, months} = curve;
    const found = [];
    for (let i = 0, lower = 0; worth > 0 && i < edges.length; lower = edges[i++]) {
      const begin = Math.max((fixed + months[i]) / worth, lower);
      if (!(begin < edges[i])) continue;
      const before = found[found.length - 1];
      if (before && begin <= before[1] * (1 + TOUCHING)) before[1] = edges[i]; else found.push([begin, edges[i]]);
    }
    if (!found.length) {
      const outcome = worth <= curve.slope ? "never" : "beyond_capacity";
      return {windows: [], first: null, stable: null, outcome, replicas: null};
    }
    const limit = edges[edges.length - 1];
    const from = worth > curve.slope ? (fixed + curve.slack) / (worth - curve.slope) : Infinity;
    const lasting = found[found.length - 1][1] >= limit && from <= limit;
    const scaled = found.map(([a, b]) => [a * replicaTokens, b * replicaTokens]);
    const first = scaled[0][0], stable = lasting ? scaled[scaled.length - 1][0] : null;
    if (lasting) scaled[scaled.length - 1][1] = null;
    const windows = scaled.length <= LISTED ? scaled
      : [...scaled.slice(0, LISTED - 1), ...(lasting ? scaled.slice(-1) : scaled.slice(LISTED - 1, LISTED))];
    const replicas = Math.ceil(after(first / replicaTokens) * curve.peak);
    return {windows, first, stable, outcome: stable === first ? "stable" : "first", replicas};
  }

  // The prices of a request with so many input tokens: its context tier's, else the row's.
  function tierOf(row, input) {
    let tier = row.price, above = -1;
    for (const t of row.tiers) if (input > t.above && t.above > above) { tier = t; above = t.above; }
    return tier;
  }

  // breakeven.prices._one_request, in the row's currency
  function oneRequest(row, mix, input, output) {
    const tier = tierOf(row, input);
    const cached = input * mix.cached, written = input * mix.written;
    let total = 0;
    for (const [name, tokens] of [["input", input - cached - written], ["output", output],
      ["cache_read", cached], ["cache_write", written]]) {
      if (!tokens) continue;
      const factor = mix.batch ? (1 - mix.batch) + mix.batch * row.batch[name] : 1;
      total += tokens * tier[name] * factor;
    }
    return total / MTOK;
  }

  // breakeven.prices.blended_usd_per_mtok; `multiple` scales every price of the row
  function blended(row, api, mix, multiple) {
    const ratio = api.tokens_ratio;
    let request = 0;
    if (mix.classes.length) {
      const total = mix.classes.reduce((sum, [share]) => sum + share, 0);
      for (const [share, prompt, output] of mix.classes) {
        request += share / total * oneRequest(row, mix, prompt * ratio, output * ratio);
      }
    } else request = oneRequest(row, mix, mix.prompt * ratio, mix.output * ratio);
    return request * multiple * api.rate * MTOK / (mix.prompt + mix.output);
  }

  // Whether an API has no price for cache reads at these lengths: the page then bills cached input in full, where Python
  // refuses and asks for cached_share: 0 on that API.
  function billsInFull(model, state, api) {
    const inputs = model.classes.length ? model.classes.map(([, prompt]) => prompt) : [state.prompt];
    return api.rows.some((row) => inputs.some((n) => tierOf(row, n * api.tokens_ratio).cache_read === null));
  }

  // breakeven.today.mix_for
  function mixFor(model, state, api) {
    const said = api.cached_share === null ? state.cached : api.cached_share;
    return {
      prompt: state.prompt, output: state.output, classes: model.classes, written: model.cache_write_share,
      cached: billsInFull(model, state, api) ? 0 : said,
      batch: api.batch_share === null ? model.batch_share : api.batch_share,
    };
  }

  // breakeven.origin.capacity
  function capacity(model, run, state) {
    let into = run.input_per_hour, out = run.output_per_hour;
    if (state.prompt !== run.prompt || state.output !== run.output) {
      const work = into / model.price_ratio + out;
      const requests = work / (state.prompt / model.price_ratio + state.output);
      into = requests * state.prompt;
      out = requests * state.output;
    }
    const second = state.headroom * run.accelerators / SECONDS_PER_HOUR;
    return {
      tokens: (into + out) * state.headroom * HOURS_PER_MONTH * run.accelerators,
      inputTps: into * second, outputTps: out * second,
    };
  }

  // breakeven.cost.rented and breakeven.cost.bought: USD an hour of a run's replica
  function replicaHour(model, run, state) {
    if (run.owned) return run.owned.usd_per_hour * state.gpu_usd_per_hour / model.machine.prices.owned;
    return state.gpu_usd_per_hour * run.accelerators / model.machine.accelerators;
  }

  // breakeven.cost.token_cost
  function outputUsdPerMtok(hour, at, ratio) {
    return hour / SECONDS_PER_HOUR / (at.inputTps / ratio + at.outputTps) * MTOK;
  }

  // breakeven.hybrid.optimum
  function hybrid(curve, sorted, above, u, replicaUsd, fixedUsd, apiUsd) {
    if (u <= 0) return {base: 0, overflow: 0, usd: 0};
    const count = sorted.length;
    const share = (k) => {
      const level = k / u, index = search(sorted, level, true);
      return Math.max(0, above[index] - level * (count - index)) / count;
    };
    const api = {base: 0, overflow: 1, usd: apiUsd};
    const top = Math.min(Math.ceil(u * curve.peak), curve.rules.max_replicas);
    if (top < 1) return api;
    let low = 1, high = top;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (apiUsd * (share(middle) - share(middle + 1)) > replicaUsd) low = middle + 1; else high = middle;
    }
    const over = share(low);
    const usd = fixedUsd + replicaUsd * (low + curve.rules.redundancy) + apiUsd * over;
    return usd < apiUsd ? {base: low, overflow: over, usd} : api;
  }

  // breakeven.projection.project, the line without draws
  function project(model, state, at, price, factors) {
    const {owned} = at.run, cashShare = owned ? owned.cash_share : 1;
    const capital = owned ? owned.capital_usd * state.gpu_usd_per_hour / model.machine.prices.owned : 0;
    const growth = Math.max(1 + model.growth_per_year, 1e-9), rules = at.curve.rules;
    const path = model.machine.paths[state.purchase] || [];
    const amortised = model.setup_usd / model.setup_months;
    let sum = 0, most = 0, payback = null, reverts = null;
    const line = [];
    for (let t = 0; t < model.horizon_months; t++) {
      const tokens = state.tokens * growth ** (t / 12), u = tokens / at.replicaTokens;
      const machine = at.machineUsd * (path[t] ?? 1) * (1 + model.gpu_drift_per_year) ** (t / 12);
      const own = at.curve.months_(u) * machine * (cashShare + model.ops_share) + at.peopleUsd + at.otherUsd - amortised;
      const api = price * factors[t] * (1 - state.api_decay) ** (t / 12) * tokens;
      let bought = 0;
      if (capital) {
        const needed = Math.max(Math.ceil(u * at.curve.peak) + rules.redundancy, rules.min_replicas);
        bought = Math.max(needed - most, 0);
        most = Math.max(most, needed);
      }
      sum += (api - own) * (1 + model.discount_rate_per_year) ** (-(t + 1) / 12)
        - bought * capital * (1 + model.discount_rate_per_year) ** (-t / 12);
      const total = sum - model.setup_usd;
      line.push(total);
      if (payback === null && total > 0) payback = t + 1;
      else if (payback !== null && reverts === null && total < 0) reverts = t + 1;
    }
    return {payback, reverts, npv: line[line.length - 1], line};
  }

  // breakeven.solve.utilization
  function utilization(curve, u) {
    const serving = mean(curve.hourly(u).map((n) => Math.max(n - curve.rules.redundancy, 0)));
    return serving && u > 0 ? u / serving : null;
  }

  // breakeven.solve.compare
  function compare(model, state, at, api) {
    const mix = mixFor(model, state, api);
    const perMtok = blended(api.rows[0], api, mix, state.api_multiple), price = perMtok / MTOK;
    const {curve, replicaTokens, replicaUsd, fixedUsd} = at, u = state.tokens / replicaTokens;
    const crossed = crossings(curve, replicaUsd, replicaTokens, fixedUsd, price);
    const apiUsd = price * state.tokens, ownUsd = at.selfHostUsd(state.tokens);
    let there = null;
    if (crossed.first !== null && crossed.replicas) {
      const uFirst = after(crossed.first / replicaTokens);
      there = curve.rules.autoscale ? utilization(curve, uFirst) : uFirst / crossed.replicas;
    }
    const known = api.rows.map((row) => perMtok ? blended(row, api, mix, state.api_multiple) / perMtok : 1);
    const factors = api.path.map((index) => known[index]);
    return {
      name: `${api.model} (${api.host})`, per_mtok: perMtok, api_usd: apiUsd, own_usd: ownUsd, saving_usd: apiUsd - ownUsd,
      windows: crossed.windows, first: crossed.first, stable: crossed.stable, outcome: crossed.outcome,
      replicas: crossed.first === null ? null : crossed.replicas, utilization: there, wins: ownUsd < apiUsd,
      hybrid: hybrid(curve, model.sorted, model.above, u, replicaUsd, fixedUsd, apiUsd),
      projection: project(model, state, at, price, factors),
    };
  }

  // What a run's comparisons share: breakeven.solve.business
  function business(model, state, run) {
    const able = capacity(model, run, state), hour = replicaHour(model, run, state);
    const machineUsd = hour * HOURS_PER_MONTH, peopleUsd = state.ops_usd + state.engineering_usd;
    const fixed = peopleUsd + model.storage_usd + model.egress_usd + model.setup_usd / model.setup_months;
    const otherUsd = fixed - peopleUsd, fixedUsd = peopleUsd + otherUsd;
    const replicaUsd = machineUsd * (1 + model.ops_share), curve = run.curve;
    return {
      run, curve, machineUsd, peopleUsd, otherUsd, fixedUsd, replicaUsd, hour, replicaTokens: able.tokens,
      output_usd_per_mtok: outputUsdPerMtok(hour, able, model.price_ratio),
      selfHostUsd: (tokens) => fixedUsd + replicaUsd * curve.months_(tokens / able.tokens),
    };
  }

  // contracts.units.human_count
  function humanCount(count) {
    for (const [factor, suffix] of [[1e12, "T"], [1e9, "B"], [1e6, "M"], [1e3, "k"]]) {
      if (Math.abs(count) >= 0.9995 * factor) return threeDigits(count / factor) + suffix;
    }
    return threeDigits(count);
  }

  // f"{value:.3g}" for 0 or 0.0001 <= |value| < 999.5, half to even as Python rounds
  function threeDigits(value) {
    if (!value) return "0";
    const [mantissa, exponent] = Math.abs(value).toExponential(60).split("e"), digits = mantissa.replace(".", "");
    const rest = digits.slice(3), tie = /^50*$/.test(rest);
    let kept = Number(digits.slice(0, 3));
    if (tie ? kept % 2 : rest >= "5") kept += 1;
    return String(Math.sign(value) * Number(`${kept}e${exponent - 2}`));
  }

  const mixes = (c) => c.hybrid.base > 0 && c.hybrid.overflow > 0
    && c.hybrid.usd < (1 - HYBRID_GAIN) * Math.min(c.api_usd, c.own_usd);
  const names = (list) => {
    const said = list.map((c) => c.name);
    return said.length > 1 ? `${said.slice(0, -1).join(", ")} and ${said[said.length - 1]}` : said[0];
  };
  const base = (mixed) => {
    const counts = [...new Set(mixed.map((c) => c.hybrid.base))].sort((a, b) => a - b), top = counts[counts.length - 1];
    return `${counts.length === 1 ? counts[0] : `${counts[0]} to ${top}`} base replica${top > 1 ? "s" : ""}`;
  };

  // breakeven.words.recommendation
  function recommendation(apis) {
    if (apis.every(mixes)) return "hybrid";
    if (apis.every((c) => c.wins)) return "self-host";
    return apis.some((c) => c.wins) || apis.some(mixes) ? "depends" : "stay";
  }

  // breakeven.words.sentence
  function sentence(model, state, run, apis) {
    const name = run.badge === "assumed" ? `${run.run} (assumed capacity)` : run.run, machine = model.machine.name;
    const winning = apis.filter((c) => c.wins), mixed = apis.filter(mixes), never = apis.filter((c) => c.outcome === "never");
    const at = `at ${humanCount(state.tokens)} tokens a month`;
    let head;
    if (mixed.length === apis.length) {
      head = `Do both: ${at} ${base(mixed)} of ${name} on ${machine} with overflow to the API beat either alone`;
    } else if (!winning.length) {
      const loses = apis.length > 1 ? `beats none of the ${apis.length} APIs` : `does not beat ${names(apis)}`;
      head = `Stay with the API: ${at} self-hosting ${name} on ${machine} ${loses}`;
    } else if (winning.length === apis.length) {
      head = `Self-host: ${at} ${name} on ${machine} beats ${apis.length > 1 ? `all ${apis.length} APIs` : names(apis)}`;
    } else {
      const losing = names(apis.filter((c) => !c.wins));
      head = `It depends on the API: ${at} ${name} on ${machine} beats ${names(winning)} and loses to ${losing}`;
    }
    const tail = never.length ? `. Against ${names(never)} it never pays off at any volume` : "";
    const also = mixed.length && mixed.length < apis.length
      ? `. Cheaper still: ${base(mixed)} with overflow to ${names(mixed)}` : "";
    return `${head}${tail}${also}.`;
  }

  // What does not change with the sliders, worked out once.
  function prepare(model) {
    for (const run of model.runs) run.curve = new Curve(run.rules, model.weights);
    model.sorted = Array.from(model.weights).sort((a, b) => a - b);
    model.above = new Array(model.sorted.length + 1).fill(0);
    for (let i = model.sorted.length - 1, sum = 0; i >= 0; i--) model.above[i] = sum += model.sorted[i];
    return model;
  }

  // breakeven.solve.verdict: the run with the cheapest tokens, beside every API
  function answer(model, state) {
    const all = model.runs.map((run) => business(model, state, run));
    const best = all.reduce((a, b) => (b.output_usd_per_mtok < a.output_usd_per_mtok ? b : a));
    const apis = model.apis.map((api) => compare(model, state, best, api)), u = state.tokens / best.replicaTokens;
    return {
      best, run: best.run.run, capacity: best.replicaTokens, utilization: utilization(best.curve, u),
      replicas: Math.ceil(u * best.curve.peak), output_usd_per_mtok: best.output_usd_per_mtok,
      own_usd: best.selfHostUsd(state.tokens), busy_usd: best.machineUsd * u, apis,
      recommendation: recommendation(apis), sentence: sentence(model, state, best.run, apis),
    };
  }

  return {prepare, answer, billsInFull, humanCount};
})();
