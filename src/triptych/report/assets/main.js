// Theme, printing, and what happens once the page is there.
const THEMES = ["light", "dark"];
const root = document.documentElement;

function remembered(value) {
  // a file opened from a folder may have no storage
  try {
    if (value) localStorage.setItem("triptych-theme", value);
    return localStorage.getItem("triptych-theme");
  } catch {
    return null;
  }
}

const theme = () => root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");

function setTheme(name) {
  root.dataset.theme = name;
  document.getElementById("theme").setAttribute("aria-pressed", String(name === "dark"));
  return plots.redraw();
}

function complain(error) {
  const box = document.getElementById("trouble");
  box.hidden = false;
  box.textContent = `The interactive parts can't be shown: ${error.message}. The tables above and below hold all numbers.`;
}

// Printing: light, even if the screen is dark. Browsers don't wait here, so it is done at once.
function forPrint() {
  root.dataset.screen = root.dataset.theme ?? "";
  root.dataset.theme = "light";
  plots.forPaper();
}

function afterPrint() {
  if (root.dataset.screen) root.dataset.theme = root.dataset.screen;
  else delete root.dataset.theme;
  return plots.fromPaper();
}

async function begin() {
  const kept = remembered();
  if (THEMES.includes(kept)) setTheme(kept);
  document.getElementById("theme").addEventListener("click", () => {
    const name = theme() === "dark" ? "light" : "dark";
    remembered(name);
    setTheme(name);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => plots.redraw());
  addEventListener("beforeprint", forPrint);
  addEventListener("afterprint", afterPrint);
  if (typeof DecompressionStream === "undefined") throw new Error("this browser can't unpack them (DecompressionStream)");
  await metrics.start();
  await explorer.start();
  await view.restore();
  for (const id of ["scatter-a", "scatter-b"]) {
    document.getElementById(id)?.addEventListener("change", () => plots.draw(document.querySelector('[data-plot="scatter"]')));
  }
  plots.watch();
  root.dataset.ready = String(Math.round(performance.now()));
}

begin().catch((error) => {
  complain(error);
  return view.restore();
});
