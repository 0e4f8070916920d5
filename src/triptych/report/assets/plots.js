// The interactive figures. Colours come from the page's CSS, so that they follow the theme.
const plots = (() => {
  const CONFIG = { displaylogo: false, responsive: true, modeBarButtonsToRemove: ["lasso2d", "select2d"] };
  const DASHES = ["solid", "dash", "dot", "dashdot"];
  const SYMBOLS = ["square", "triangle-up", "triangle-down", "cross"];
  const drawn = new Set();

  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const touch = () => matchMedia("(pointer: coarse)").matches;
  const narrow = () => document.documentElement.clientWidth < 640;
  const paint = (core, setting) => css(core.settings[setting].strategy);
  const faint = (colour, alpha) => `${colour}${Math.round(alpha * 255).toString(16).padStart(2, "0")}`;

  function axis(title, values, more = {}) {
    const positive = (values || []).filter((value) => value > 0);
    const log = positive.length && Math.max(...positive) > 10 * Math.min(...positive);
    return {
      ...{ title: { text: title, font: { size: 12 }, standoff: 8 }, gridcolor: css("grid"), zeroline: false },
      ...{ linecolor: css("line"), tickcolor: css("line"), ticks: "outside", automargin: true },
      ...(log ? { type: "log", dtick: narrow() ? 1 : "D2", tickformat: ",~r" } : {}),
      ...more,
    };
  }

  function layout(more) {
    return {
      ...{ paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", dragmode: touch() ? false : "zoom" },
      ...{ margin: { l: 56, r: 14, t: 10, b: 46 }, hovermode: "closest", showlegend: true },
      font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: css("ink") },
      legend: { orientation: "h", x: 0, y: -0.22, yanchor: "top", font: { size: 12 } },
      hoverlabel: { bgcolor: css("card"), bordercolor: css("line"), font: { color: css("ink"), size: 12 } },
      ...more,
    };
  }

  function levels(core) {
    return Object.entries(core.best)
      .filter(([strategy]) => strategy !== "qlora")
      .map(([, place]) => ({ place, ...core.settings[place] }));
  }

  function curve(core) {
    if (!core.curve.length) return null;
    const traces = ["test", "dev"].flatMap((split) => {
      const points = core.curve.filter((point) => point.split === split);
      return points.length ? [curveLine(points, split)] : [];
    });
    const last = Math.max(...core.curve.map((point) => point.step)) || 1;
    for (const level of levels(core)) traces.push(...levelLine(core, level, last));
    const used = core.curve.find((point) => point.split === "test" && point.step === core.selected?.step);
    if (used) traces.push(usedPoint(core, used));
    const shown = [...core.curve.map((point) => point.ppl), ...levels(core).map((level) => level.ppl)];
    const x = axis("optimizer steps", null, { range: [-0.03 * last, 1.04 * last] });
    return [traces, layout({ xaxis: x, yaxis: axis("mean perplexity of the rows", shown) })];
  }

  function curveLine(points, split) {
    const colour = css("qlora");
    return {
      ...{ x: points.map((p) => p.step), y: points.map((p) => p.ppl), mode: "lines+markers" },
      name: `QLoRA, ${split} rows`,
      line: { color: colour, width: 2.5, dash: split === "test" ? "solid" : "dot" },
      marker: { size: 7, color: split === "test" ? colour : css("card"), line: { color: colour, width: 1.5 } },
      customdata: points.map((p) => [data.number(p.ppl), data.number(p.epoch)]),
      hovertemplate: "step %{x}, epoch %{customdata[1]}<br>perplexity %{customdata[0]}<extra></extra>",
    };
  }

  // A strategy's level is a line over the width of training, its 95 % interval over rows a band behind it.
  function levelLine(core, level, last) {
    const colour = paint(core, level.place);
    const line = {
      ...{ x: [-last, 2 * last], y: [level.ppl, level.ppl], mode: "lines", hoverinfo: "name" },
      ...{ name: `${level.name}: ${level.shown}`, line: { color: colour, dash: "dash", width: 1.8 } },
    };
    if (!level.interval) return [line];
    const [low, high] = level.interval;
    const band = {
      ...{ x: [-last, 2 * last, 2 * last, -last], y: [low, low, high, high], fill: "toself", mode: "lines" },
      ...{ fillcolor: faint(colour, 0.1), line: { width: 0 }, hoverinfo: "skip", showlegend: false },
    };
    return [band, line];
  }

  function usedPoint(core, used) {
    const bounds = core.settings[core.best.qlora]?.interval;
    const how = { last: "last step", dev: "best on dev", test: "best on test" }[core.selected.by];
    const bar = bounds && {
      ...{ type: "data", symmetric: false, array: [bounds[1] - used.ppl], arrayminus: [used.ppl - bounds[0]] },
      ...{ color: css("qlora"), thickness: 1.5, width: 5 },
    };
    return {
      ...{ x: [used.step], y: [used.ppl], mode: "markers", error_y: bar || undefined, hoverinfo: "name" },
      name: `used (${how}): ${data.number(used.ppl)}${bounds ? ", 95 % interval" : ""}`,
      marker: { size: 13, color: "rgba(0,0,0,0)", line: { color: css("ink"), width: 1.6 } },
    };
  }

  function loss(core) {
    const points = core.curve.filter((point) => point.loss !== null && point.split === "test");
    if (points.length < 2) return null;
    const trace = {
      ...{ x: points.map((p) => p.step), y: points.map((p) => p.loss), mode: "lines+markers" },
      ...{ line: { color: css("muted"), width: 2 }, marker: { size: 6 } },
      hovertemplate: "step %{x}<br>%{y:.3f} nats per token<extra></extra>",
    };
    const x = axis("optimizer steps", null, { rangemode: "tozero" });
    return [[trace], layout({ xaxis: x, yaxis: axis("nats per scored token"), showlegend: false })];
  }

  function byK(core) {
    if (!core.few_shot.length) return null;
    const groups = new Map();
    for (const point of core.few_shot) {
      const key = [...(several(core) ? [point.prompt] : []), point.draw === "item" ? "drawn for each row" : "one draw a seed"];
      groups.set(key.join(", "), [...(groups.get(key.join(", ")) || []), point]);
    }
    const traces = [...groups].flatMap(([name, points], index) => kLine(name, points, index));
    const zero = core.settings.filter((setting) => setting.strategy === "zero_shot");
    if (zero.length) traces.push(zeroPoints(zero));
    const tuned = core.settings[core.best.qlora];
    const ks = [...new Set([0, ...core.few_shot.map((point) => point.k)])];
    if (tuned) traces.push(...levelLine(core, { place: core.best.qlora, ...tuned }, Math.max(...ks)));
    const shown = [...core.settings.map((setting) => setting.ppl), ...core.few_shot.flatMap((p) => p.seeds.map((s) => s[1]))];
    const pad = 0.06 * Math.max(...ks);
    const x = axis("demonstrations in the prompt (k)", null, { tickvals: ks, range: [-pad, Math.max(...ks) + pad] });
    return [traces, layout({ xaxis: x, yaxis: axis("mean perplexity of the rows", shown) })];
  }

  const several = (core) => new Set(core.few_shot.map((point) => point.prompt)).size > 1;

  function kLine(name, points, index) {
    const colour = css("few_shot");
    const spread = points.some((point) => point.std !== null);
    const seeds = points.flatMap((point) => point.seeds.map(([seed, ppl]) => [point.k, ppl, seed, data.number(ppl)]));
    return [
      {
        ...{ x: points.map((p) => p.k), y: points.map((p) => p.mean), mode: "lines+markers" },
        name: `few-shot, ${name}${spread ? " (mean ± std over seeds)" : ""}`,
        line: { color: colour, width: 2.2, dash: DASHES[index % 4] },
        marker: { size: 8, symbol: SYMBOLS[index % 4], color: colour },
        error_y: { type: "data", array: points.map((p) => p.std ?? 0), color: colour, thickness: 1.6, visible: spread },
        customdata: points.map((p) => data.number(p.mean) + (p.std === null ? "" : ` ± ${data.number(p.std)}`)),
        hovertemplate: "k = %{x}: %{customdata}<extra></extra>",
      },
      {
        ...{ x: seeds.map((s) => s[0]), y: seeds.map((s) => s[1]), mode: "markers", showlegend: false },
        marker: { size: 6, color: faint(colour, 0.45) },
        customdata: seeds.map((s) => s.slice(2)),
        hovertemplate: "k = %{x}, seed %{customdata[0]}: %{customdata[1]}<extra></extra>",
      },
    ];
  }

  function zeroPoints(zero) {
    return {
      ...{ x: zero.map(() => 0), y: zero.map((s) => s.ppl), mode: "markers", name: "zero-shot prompts" },
      marker: { size: 9, symbol: "diamond", color: css("zero_shot") },
      customdata: zero.map((s) => [s.name, s.shown]),
      hovertemplate: "%{customdata[0]}: %{customdata[1]}<extra></extra>",
    };
  }

  function forest(core) {
    const made = [...core.comparisons].reverse();
    if (!made.length) return null;
    const names = made.map((c) => (narrow() ? `${c.a}<br>− ${c.b}` : `${c.a} − ${c.b}`));
    const traces = [true, false].map((told) => forestMarks(made, told)).filter((trace) => trace.x.length);
    const x = axis("difference of mean perplexity, paired by row (left of 0: the first is better)");
    const y = axis("", null, { tickvals: names.map((_, i) => i), ticktext: names, range: [-0.7, names.length - 0.3], showgrid: false });
    const zero = { type: "line", x0: 0, x1: 0, y0: 0, y1: 1, yref: "paper", line: { color: css("ink"), width: 1 } };
    const height = 150 + made.length * (narrow() ? 52 : 38);
    return [traces, layout({ xaxis: { ...x, zeroline: false }, yaxis: { ...y, title: undefined }, shapes: [zero], height })];
  }

  function forestMarks(made, told) {
    const chosen = made.map((c, place) => ({ ...c, place })).filter((c) => c.told === told);
    const colour = told ? css("ink") : css("muted");
    return {
      ...{ x: chosen.map((c) => c.difference), y: chosen.map((c) => c.place), mode: "markers" },
      name: told ? "differ beyond chance" : "can't be told from zero",
      marker: { size: 9, color: told ? colour : css("card"), line: { color: colour, width: 1.8 } },
      error_x: {
        ...{ type: "data", symmetric: false, color: colour, thickness: 2, width: 0 },
        ...{ array: chosen.map((c) => c.high - c.difference), arrayminus: chosen.map((c) => c.difference - c.low) },
      },
      customdata: chosen.map((c) => [data.signed(c.difference), data.number(c.low), data.number(c.high), c.p < 0.001 ? "< 0.001" : `= ${c.p.toFixed(3)}`]),
      hovertemplate: "%{customdata[0]} [%{customdata[1]}, %{customdata[2]}]<br>p (Holm) %{customdata[3]}<extra></extra>",
    };
  }

  async function distribution(core) {
    const best = Object.entries(core.best);
    if (!best.length) return null;
    const traces = await Promise.all(best.map(async ([strategy, place]) => violin(core, strategy, place, await data.series(`setting:${place}`))));
    const all = traces.flatMap((trace) => [...trace.x]);
    const [low, high] = [Math.min(...all), Math.max(...all)];
    const x = axis("perplexity of a row (log scale)", null, { ...logTicks(low, high) });
    return [traces, layout({ xaxis: x, yaxis: axis("", null, { showticklabels: false, ticks: "", showgrid: false }), height: 130 + 95 * best.length })];
  }

  function violin(core, strategy, place, values) {
    const colour = css(strategy);
    return {
      ...{ type: "violin", orientation: "h", side: "positive", x: Array.from(values, Math.log10), width: 1.7 },
      ...{ name: core.settings[place].name, y0: core.settings[place].name, points: values.length > 2000 ? false : "all" },
      ...{ pointpos: -0.16, jitter: 0.22, box: { visible: true, width: 0.12 }, hoveron: "violins", hoverinfo: "name" },
      ...{ line: { color: colour, width: 1.6 }, fillcolor: faint(colour, 0.22), marker: { size: 3, opacity: 0.5 } },
    };
  }

  function logTicks(low, high) {
    const ticks = [];
    for (let power = Math.floor(low); power <= Math.ceil(high); power++) {
      for (const step of high - low > 2.5 ? [1] : [1, 2, 5]) ticks.push(step * 10 ** power);
    }
    return { tickvals: ticks.map(Math.log10), ticktext: ticks.map((tick) => Number(tick.toPrecision(2)).toLocaleString("en-US")) };
  }

  async function scatter(core) {
    const [a, b] = ["scatter-a", "scatter-b"].map((id) => document.getElementById(id));
    if (!a?.value || !b?.value) return null;
    const [x, y, rows] = [await data.series(b.value), await data.series(a.value), await data.json("rows")];
    const colour = colourOf(core, a.value);
    const ends = [Math.min(...x, ...y) * 0.8, Math.max(...x, ...y) * 1.25];
    const points = {
      ...{ type: x.length > 3000 ? "scattergl" : "scatter", mode: "markers", x, y, name: "a row", text: rows.ids.map(plain) },
      marker: { size: x.length > 1000 ? 4 : 7, color: faint(colour, 0.55), line: { width: x.length > 1000 ? 0 : 0.6, color: colour } },
      customdata: Array.from(x, (value, row) => [data.number(value), data.number(y[row]), row]),
      hovertemplate: "%{text}<br>across %{customdata[0]}, up %{customdata[1]}<extra></extra>",
    };
    const same = { x: ends, y: ends, mode: "lines", line: { color: css("muted"), dash: "dot", width: 1.3 }, name: "equal", hoverinfo: "skip" };
    const label = (select) => plain(select.selectedOptions[0].textContent);
    const log = { type: "log", range: ends.map(Math.log10), dtick: narrow() || ends[1] > 300 * ends[0] ? 1 : "D2", tickformat: ",~r" };
    const titles = [`perplexity of a row: ${label(b)}`, `perplexity: ${label(a)}`];
    return [[same, points], layout({ xaxis: axis(titles[0], null, log), yaxis: axis(titles[1], null, log), showlegend: false, height: narrow() ? 380 : 480 })];
  }

  // Plotly reads a little HTML in texts; names and ids are not HTML.
  const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

  function colourOf(core, key) {
    const [kind, place] = key.split(":");
    const setting = kind === "setting" ? core.settings[place] : core.settings.find((s) => s.cells.includes(Number(place)));
    return css(setting.strategy);
  }

  const makers = { curve, loss, byK, forest, distribution, scatter };

  async function draw(box) {
    const [core, library] = [await facts(), await data.library()];
    const made = await makers[box.dataset.plot](core);
    box.closest("figure").hidden = !made;
    if (!made) return;
    const first = !drawn.has(box);
    if (first) box.replaceChildren();
    await library.react(box, { data: made[0], layout: { height: 380, ...made[1] }, config: CONFIG });
    drawn.add(box);
    box.dataset.drawn = "yes";
    if (first && box.dataset.plot === "scatter") {
      box.on("plotly_click", (event) => {
        const point = event.points.find((each) => each.customdata);
        if (point) explorer.show(point.customdata[2]);
      });
    }
  }

  let kept = null;

  // The same facts with names made safe for Plotly's texts; the explorer keeps the names as they are.
  async function facts() {
    if (kept) return kept;
    const core = structuredClone(await data.json("core"));
    for (const setting of core.settings) setting.name = plain(setting.name);
    for (const each of core.comparisons) [each.a, each.b] = [plain(each.a), plain(each.b)];
    for (const point of core.few_shot) point.prompt = plain(point.prompt);
    kept = core;
    return core;
  }

  const redraw = () => Promise.all([...drawn].map(draw));

  // Drawn when it comes near the window: the library is large and the answer shouldn't wait for it.
  function watch() {
    const watcher = new IntersectionObserver(
      (entries) => {
        for (const { target } of entries.filter((entry) => entry.isIntersecting)) {
          watcher.unobserve(target);
          draw(target);
        }
      },
      { rootMargin: "300px" },
    );
    for (const box of document.querySelectorAll("[data-plot]")) watcher.observe(box);
  }

  const drawAll = () => Promise.all([...document.querySelectorAll("[data-plot]")].map(draw));

  return { css, draw, drawAll, redraw, watch };
})();
