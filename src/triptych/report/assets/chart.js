// How figures look, and the figures of settings. Colours come from the page's CSS, so that they follow the theme.
const chart = (() => {
  const DASHES = ["solid", "dash", "dot", "dashdot"];
  const SYMBOLS = ["square", "triangle-up", "triangle-down", "cross"];
  // for further lines of the figure over k: readable on light and dark, each with its own dash and symbol
  const FURTHER = ["#b5568f", "#9a7b1f", "#7a70cf", "#2b9a9a", "#b5483f", "#6f8f2f", "#8a8a8a"];

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
      modebar: { bgcolor: "rgba(0,0,0,0)", color: css("muted"), activecolor: css("ink") },
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
    const further = Object.entries(core.further).map(([name, points]) => [name, points.filter((p) => p.split === "test")]);
    const first = further.length ? core.training : "QLoRA";
    const traces = ["test", "dev"].flatMap((split) => {
      const points = core.curve.filter((point) => point.split === split);
      const band = split === "test" ? curveBand(points) : [];
      return points.length ? [...band, curveLine(points, split, first)] : [];
    });
    for (const [name, points] of further) if (points.length) traces.push(furtherLine(points, name));
    const others = further.flatMap(([, points]) => points);
    const last = Math.max(...[...core.curve, ...others].map((point) => point.step)) || 1;
    for (const level of levels(core)) traces.push(...levelLine(core, level, last));
    const used = core.curve.find((point) => point.split === "test" && point.step === core.selected?.step);
    if (used) traces.push(usedPoint(core, used));
    const curves = [...core.curve, ...others].flatMap((point) => [point.ppl, point.low ?? point.ppl, point.high ?? point.ppl]);
    const shown = [...curves, ...levels(core).map((level) => level.ppl)];
    const x = axis("optimizer steps", null, { range: [-0.03 * last, 1.04 * last] });
    return [traces, layout({ xaxis: x, yaxis: axis("mean perplexity of the rows", shown) })];
  }

  // The 95 % interval of the points' means over rows; runs of older versions have none.
  function curveBand(points) {
    const known = points.filter((point) => point.low !== null);
    if (known.length < 2) return [];
    const back = [...known].reverse();
    return [{
      ...{ x: [...known, ...back].map((p) => p.step), y: [...known.map((p) => p.high), ...back.map((p) => p.low)] },
      ...{ fill: "toself", mode: "lines", fillcolor: faint(css("qlora"), 0.16), line: { width: 0 } },
      ...{ name: "95 % interval over test rows", hoverinfo: "skip" },
    }];
  }

  function curveLine(points, split, training) {
    const colour = css("qlora");
    return {
      ...{ x: points.map((p) => p.step), y: points.map((p) => p.ppl), mode: "lines+markers" },
      name: `${training}, ${split} rows`,
      line: { color: colour, width: 2.5, dash: split === "test" ? "solid" : "dot" },
      marker: { size: 7, color: split === "test" ? colour : css("card"), line: { color: colour, width: 1.5 } },
      customdata: points.map((p) => [data.number(p.ppl), data.number(p.epoch)]),
      hovertemplate: "step %{x}, epoch %{customdata[1]}<br>perplexity %{customdata[0]}<extra></extra>",
    };
  }

  // Trainings after the first: paler, without a band each.
  function furtherLine(points, name) {
    const line = curveLine(points, "test", name);
    return { ...line, opacity: 0.65, line: { ...line.line, width: 1.5, dash: "dashdot" }, marker: { size: 4, color: css("qlora") } };
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
    // of this training; runs of older versions kept none, and what they had was one cell
    const tuned = core.settings.filter((setting) => setting.strategy === "qlora");
    const bounds = used.low !== null ? [used.low, used.high] : tuned.length === 1 && tuned[0].cells.length === 1 ? tuned[0].interval : null;
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
      const key = groupName(core, point);
      groups.set(key, [...(groups.get(key) ?? []), point]);
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

  // What tells this line from the others: nothing where there is one.
  function groupName(core, point) {
    const several = (key) => new Set(core.few_shot.map((other) => other[key])).size > 1;
    const draw = { item: "drawn for each row", seed: "one draw a seed" }[point.draw];
    const parts = [several("prompt") && point.prompt, several("select") && point.select, several("order") && point.order, several("draw") && draw];
    return parts.filter(Boolean).map((part) => `, ${part}`).join("");
  }

  function kLine(name, points, index) {
    const colour = index ? FURTHER[(index - 1) % FURTHER.length] : css("few_shot");
    const spread = points.some((point) => point.std !== null);
    const seeds = points.flatMap((point) => point.seeds.map(([seed, ppl]) => [point.k, ppl, seed, data.number(ppl)]));
    return [
      {
        ...{ x: points.map((p) => p.k), y: points.map((p) => p.mean), mode: "lines+markers" },
        name: `few-shot${name}${spread ? " (mean ± std over seeds)" : ""}`,
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
    const x = axis("difference of mean perplexity");
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

  // Plotly reads a little HTML in texts; names and ids are not HTML.
  const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

  return { axis, css, faint, layout, makers: { curve, loss, byK, forest }, narrow, plain };
})();
