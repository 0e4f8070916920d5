// The figures of rows, and when figures are drawn.
const plots = (() => {
  const CONFIG = { displaylogo: false, responsive: true, modeBarButtonsToRemove: ["lasso2d", "select2d"] };
  const { axis, css, faint, layout, narrow, plain } = chart;
  const drawn = new Set();
  let turn = Promise.resolve();

  // Perplexities that are drawn, unpacked before: drawing itself never waits, for print can't.
  const values = new Map();
  let ids = [];

  const chosen = () => ["scatter-a", "scatter-b"].map((id) => document.getElementById(id)).filter((select) => select?.value);

  async function prepare(core) {
    const keys = [...Object.values(core.best).map((place) => `setting:${place}`), ...chosen().map((select) => select.value)];
    for (const key of keys) values.set(key, await data.series(key));
    ids = (await data.json("rows")).ids;
  }

  function distribution(core) {
    const best = Object.entries(core.best);
    if (!best.length) return null;
    const traces = best.map(([strategy, place]) => violin(core, strategy, place, values.get(`setting:${place}`)));
    const all = traces.flatMap((trace) => [...trace.x]);
    const [low, high] = [Math.min(...all), Math.max(...all)];
    const x = axis("perplexity of a row (log scale)", false, { ...logTicks(low, high) });
    return [traces, layout({ xaxis: x, yaxis: axis("", false, { showticklabels: false, ticks: "", showgrid: false }), height: narrow() ? 130 + 95 * best.length : 545 })];
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
      for (const step of high - low > (narrow() ? 1.6 : 2.8) ? [1] : [1, 2, 5]) ticks.push(step * 10 ** power);
    }
    return { tickvals: ticks.map(Math.log10), ticktext: ticks.map((tick) => Number(tick.toPrecision(2)).toLocaleString("en-US")) };
  }

  function scatter(core) {
    const [a, b] = chosen();
    if (!b) return null;
    const [x, y] = [values.get(b.value), values.get(a.value)];
    const colour = colourOf(core, a.value);
    const ends = [Math.min(...x, ...y) * 0.8, Math.max(...x, ...y) * 1.25];
    const points = {
      ...{ type: x.length > 3000 ? "scattergl" : "scatter", mode: "markers", x, y, name: "a row", text: ids.map(plain) },
      marker: { size: x.length > 1000 ? 4 : 7, color: faint(colour, 0.55), line: { width: x.length > 1000 ? 0 : 0.6, color: colour } },
      customdata: Array.from(x, (value, row) => [data.number(value), data.number(y[row]), row]),
      hovertemplate: "%{text}<br>across %{customdata[0]}, up %{customdata[1]}<extra></extra>",
    };
    const same = { x: ends, y: ends, mode: "lines", line: { color: css("muted"), dash: "dot", width: 1.3 }, name: "equal", hoverinfo: "skip" };
    const label = (select) => plain(select.selectedOptions[0].textContent);
    const log = { type: "log", range: ends.map(Math.log10), dtick: narrow() || ends[1] > 300 * ends[0] ? 1 : "D2", tickformat: ",~r" };
    const titles = [`perplexity of a row: ${label(b)}`, `perplexity: ${label(a)}`];
    return [[same, points], layout({ xaxis: axis(titles[0], false, log), yaxis: axis(titles[1], false, log), showlegend: false, height: narrow() ? 380 : 480 })];
  }

  function colourOf(core, key) {
    const [kind, place] = key.split(":");
    const setting = kind === "setting" ? core.settings[place] : core.settings.find((s) => s.cells.includes(Number(place)));
    return css(setting.strategy);
  }

  const makers = { ...chart.makers, distribution, scatter };

  // One after the other: a figure is never drawn twice at once, and the page stays awake between them.
  function draw(box) {
    turn = turn.then(() => make(box)).catch((error) => console.error(error));
    return turn;
  }

  async function make(box) {
    const [core, library] = [await facts(), await data.library()];
    await prepare(core);
    const made = makers[box.dataset.plot](core);
    box.closest("figure").hidden = !made;
    if (!made) return;
    caption(box, core.charts[box.dataset.plot]);
    const first = !drawn.has(box);
    if (first) box.replaceChildren();
    const look = { height: 380, ...made[1] };
    // the box keeps this height when its width changes
    box.style.height = `${look.height}px`;
    await library.react(box, { data: made[0], layout: look, config: CONFIG });
    drawn.add(box);
    box.dataset.drawn = "yes";
    if (first && box.dataset.plot === "scatter") {
      box.on("plotly_click", (event) => {
        const point = event.points.find((each) => each.customdata);
        if (point) explorer.show(point.customdata[2]);
      });
    }
  }

  function caption(box, drawnChart) {
    if (!drawnChart) return;
    const figure = box.closest("figure");
    figure.querySelector("h3").textContent = drawnChart.title;
    figure.querySelector("figcaption").textContent = drawnChart.caption;
  }

  let kept = null;

  // The same facts with names made safe for Plotly's texts; the explorer keeps the names as they are.
  async function facts() {
    if (kept) return kept;
    const core = structuredClone(await data.json("core"));
    for (const setting of core.settings) setting.name = plain(setting.name);
    kept = core;
    return core;
  }

  // At once, for print: in the colours of now, and as wide as the paper. The library is there if anything is drawn.
  function forPaper() {
    for (const box of drawn) {
      const made = kept && makers[box.dataset.plot](kept);
      if (!made) continue;
      const [traces, look] = made;
      window.Plotly.react(box, { data: traces, layout: { height: 380, ...look, width: 660 }, config: CONFIG });
    }
  }

  async function fromPaper() {
    await redraw();
    for (const box of drawn) window.Plotly.Plots.resize(box);
  }

  // After another metric was chosen; figures that it doesn't have are hidden.
  function remeasure() {
    kept = null;
    return redraw();
  }

  const redraw = () => Promise.all([...drawn].map(draw));

  // Drawn when it comes near the window, for the library is large and the answer shouldn't wait for it; the rest when
  // the reader has been here for a while, so that print finds them.
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
    setTimeout(() => (window.requestIdleCallback ?? setTimeout)(drawAll), 2500);
  }

  const drawAll = () => Promise.all([...document.querySelectorAll("[data-plot]:not([data-drawn])")].map(draw));

  return { draw, drawAll, forPaper, fromPaper, redraw, remeasure, watch };
})();
