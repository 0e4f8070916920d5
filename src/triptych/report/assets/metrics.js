// Which of the run's metrics the page shows: its panels, figures and the columns of the explorer.
const metrics = (() => {
  let [core, place] = [null, 0];
  const buttons = () => [...document.querySelectorAll("#metrics button")];

  async function start() {
    core = await data.json("core");
    use(0);
    for (const button of buttons()) button.addEventListener("click", () => choose(button.dataset.metric));
  }

  function use(other) {
    place = other;
    [core.best, core.charts] = [core.metrics[place].best, core.metrics[place].charts];
  }

  const now = () => core.metrics[place];

  // The values of the rows by the metric that is shown.
  const series = (key) => data.series(key, now().name === "perplexity" ? -1 : place);

  async function choose(name) {
    const other = core.metrics.findIndex((metric) => metric.name === name);
    if (other < 0 || other === place) return;
    use(other);
    for (const button of buttons()) button.setAttribute("aria-pressed", String(button.dataset.metric === name));
    for (const part of document.querySelectorAll(".by-metric")) part.hidden = part.dataset.metric !== name;
    await explorer.remeasure();
    await plots.remeasure();
    document.documentElement.dataset.metric = name;
  }

  return { choose, now, series, start };
})();
