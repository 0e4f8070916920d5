// How figures look, and the figures of settings, whose series the report computed (series.py). Colours come from the
// page's CSS, so that they follow the theme.
const chart = (() => {
  const DASHES = ["solid", "dash", "dot", "dashdot"];
  const SYMBOLS = ["square", "triangle-up", "triangle-down", "cross"];
  // for further lines of the figure over k: readable on light and dark, each with its own dash and symbol
  const FURTHER = ["#b5568f", "#9a7b1f", "#7a70cf", "#2b9a9a", "#b5483f", "#6f8f2f", "#8a8a8a"];

  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const touch = () => matchMedia("(pointer: coarse)").matches;
  const narrow = () => document.documentElement.clientWidth < 640;
  const faint = (colour, alpha) => `${colour}${Math.round(alpha * 255).toString(16).padStart(2, "0")}`;

  function axis(title, log, more = {}) {
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

  // What the scripts draw by the role of a series; names and texts are other people's words.
  const words = (text) => plain(text).replace(/\n/g, "<br>");

  function traces(chart) {
    const steps = chart.series.flatMap((s) => s.x);
    const across = [-2 * Math.max(1, ...steps), 2 * Math.max(1, ...steps)];
    return chart.series.flatMap((s) => (looks[s.role] ?? looks.loss)(s, across).map((trace) => ({ hoverinfo: "skip", ...trace })));
  }

  function points(s, more) {
    return {
      ...{ x: s.x, y: s.y, mode: "lines+markers", name: words(s.name), showlegend: Boolean(s.name) },
      ...(s.texts.length ? { customdata: s.texts.map(words), hovertemplate: "%{customdata}<extra></extra>" } : {}),
      ...more,
    };
  }

  function bars(values, s, colour, more) {
    if (!s.bounds.length) return undefined;
    const [array, arrayminus] = [s.bounds.map(([, high], i) => high - values[i]), s.bounds.map(([low], i) => values[i] - low)];
    return { type: "data", symmetric: false, array, arrayminus, color: colour, ...more };
  }

  function filled(s, x, bounds, alpha, more) {
    const colour = faint(css(s.strategy), alpha);
    const y = [...bounds.map(([, high]) => high), ...bounds.map(([low]) => low).reverse()];
    const outline = { x: [...x, ...[...x].reverse()], y, fill: "toself" };
    return { ...outline, mode: "lines", fillcolor: colour, line: { width: 0 }, ...more };
  }

  const training = (s, dash, width, marker, more = {}) => [
    points(s, { line: { color: css("qlora"), width, dash }, marker: { size: 7, line: { color: css("qlora"), width: 1.5 }, ...marker }, ...more }),
  ];

  const looks = {
    band: (s) => [filled(s, s.x, s.bounds, 0.16, { name: words(s.name), showlegend: Boolean(s.name) })],
    test: (s) => training(s, "solid", 2.5, { color: css("qlora") }),
    dev: (s) => training(s, "dot", 2.5, { color: css("card") }),
    // trainings after the first: paler, without a band each
    further: (s) => training(s, "dashdot", 1.5, { size: 4, color: css("qlora") }, { opacity: 0.65 }),
    // a level is a line over the whole width, its 95 % interval over rows a band behind it
    level: (s, across) => [
      ...(s.bounds.length ? [filled(s, across, [s.bounds[0], s.bounds[0]], 0.1, { showlegend: false })] : []),
      { ...points(s, { mode: "lines", hoverinfo: "name", line: { color: css(s.strategy), dash: "dash", width: 1.8 } }), x: across, y: [s.y[0], s.y[0]] },
    ],
    used: (s) => [
      points(s, {
        ...{ mode: "markers", hoverinfo: "name", error_y: bars(s.y, s, css("qlora"), { thickness: 1.5, width: 5 }) },
        marker: { size: 13, color: "rgba(0,0,0,0)", line: { color: css("ink"), width: 1.6 } },
      }),
    ],
    loss: (s) => [points(s, { line: { color: css("muted"), width: 2 }, marker: { size: 6 } })],
    few_shot: (s) => [
      points(s, {
        line: { color: wayColour(s), width: 2.2, dash: DASHES[s.place % 4] },
        marker: { size: 8, symbol: SYMBOLS[s.place % 4], color: wayColour(s) },
        error_y: bars(s.y, s, wayColour(s), { thickness: 1.6 }),
      }),
    ],
    seeds: (s) => [points(s, { mode: "markers", marker: { size: 6, color: faint(wayColour(s), 0.45) } })],
    zero_shot: (s) => [points(s, { mode: "markers", marker: { size: 9, symbol: "diamond", color: css("zero_shot") } })],
    equal: (s) => [points(s, { mode: "lines", line: { color: css("muted"), dash: "dash", width: 1.3 } })],
    reliability: (s) => [
      points(s, { line: { color: faint(css(s.strategy), 0.6), width: 1.2 }, marker: { opacity: 0.85, size: s.shares.map((share) => 5 + 28 * Math.sqrt(share)), color: css(s.strategy) } }),
    ],
    significant: (s) => [difference(s, css("ink"), css("ink"))],
    open: (s) => [difference(s, css("muted"), css("card"))],
  };

  const wayColour = (s) => (s.place ? FURTHER[(s.place - 1) % FURTHER.length] : css("few_shot"));

  function difference(s, colour, face) {
    const marker = { size: 9, color: face, line: { color: colour, width: 1.8 } };
    return points(s, { mode: "markers", marker, error_x: bars(s.x, s, colour, { thickness: 2, width: 0 }) });
  }

  function curve(chart) {
    const last = Math.max(...chart.series.flatMap((s) => s.x)) || 1;
    const x = axis(chart.x, false, { range: [-0.03 * last, 1.04 * last] });
    return [traces(chart), layout({ xaxis: x, yaxis: axis(chart.y, chart.log) })];
  }

  function loss(chart) {
    return [traces(chart), layout({ xaxis: axis(chart.x, false, { rangemode: "tozero" }), yaxis: axis(chart.y, false) })];
  }

  function byK(chart) {
    const ks = chart.ticks.map(([k]) => k);
    const pad = 0.06 * Math.max(...ks);
    const x = axis(chart.x, false, { tickvals: ks, range: [-pad, Math.max(...ks) + pad] });
    return [traces(chart), layout({ xaxis: x, yaxis: axis(chart.y, chart.log) })];
  }

  function crossover(chart) {
    const [tickvals, ticktext] = [chart.ticks.map(([place]) => place), chart.ticks.map(([, text]) => text)];
    const x = axis(chart.x, false, { tickvals, ticktext, range: [tickvals[0] - 0.25, tickvals.at(-1) + 0.25] });
    return [traces(chart), layout({ xaxis: x, yaxis: axis(chart.y, chart.log), height: narrow() ? 440 : 430 })];
  }

  function forest(chart) {
    const [tickvals, texts] = [chart.ticks.map(([place]) => place), chart.ticks.map(([, text]) => text)];
    const ticktext = texts.map((text) => (narrow() ? words(text) : plain(text.replace("\n", " "))));
    const y = axis("", false, { tickvals, ticktext, range: [-0.7, texts.length - 0.3], showgrid: false });
    const zero = { type: "line", x0: 0, x1: 0, y0: 0, y1: 1, yref: "paper", line: { color: css("ink"), width: 1 } };
    const height = 150 + texts.length * (narrow() ? 52 : 38);
    return [traces(chart), layout({ xaxis: axis(chart.x, false), yaxis: { ...y, title: undefined }, shapes: [zero], height })];
  }

  function calibration(chart) {
    const range = [-0.06, 1.06];
    const x = axis(chart.x, false, { range, constrain: "domain" });
    return [traces(chart), layout({ xaxis: x, yaxis: axis(chart.y, false, { range }), height: narrow() ? 420 : 460 })];
  }

  const drawn = { curve, loss, byK, crossover, forest, calibration };
  const makers = Object.fromEntries(
    Object.entries(drawn).map(([name, make]) => [name, ({ charts }) => (charts[name] ? make(charts[name]) : null)]),
  );

  // Plotly reads a little HTML in texts; names and ids are not HTML.
  const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

  return { axis, css, faint, layout, makers, narrow, plain };
})();
