// While the run goes on, the page loads itself again: not while the reader types, marks text or moves, nor unseen.
const refresh = (() => {
  const MOST = 120; // seconds: where nothing new comes, the run may have been interrupted, and it is looked for less often
  const box = document.getElementById("so-far");
  const [button, said] = [document.getElementById("refresh"), document.getElementById("refresh-said")];
  const [every, written] = [Number(box.dataset.every), box.dataset.written];
  const calm = Math.min(2500, every * 250); // milliseconds without the reader doing anything
  const before = view.stored();
  const wait = before?.written === written ? Math.min(Math.max(MOST, every), before.wait * 2) : every;
  let paused = before?.paused ?? false;
  let [busy, composing] = [-Infinity, false];

  function quiet() {
    const marked = !(getSelection()?.isCollapsed ?? true);
    return !document.hidden && !composing && !marked && performance.now() - busy > calm;
  }

  function show() {
    const minutes = Math.floor((Date.now() - Date.parse(written)) / 60000);
    const old = minutes >= 3 && minutes * 60 > 4 * every ? ` Nothing new for ${minutes.toLocaleString("en-US")} minutes.` : "";
    button.setAttribute("aria-pressed", String(paused));
    button.textContent = paused ? "Refresh again" : "Pause refreshing";
    said.textContent = (paused ? "This page stays as it was written." : `Refreshes itself every ${wait} s until it is whole.`) + old;
  }

  function look() {
    show();
    if (!paused && performance.now() > wait * 1000 && quiet()) location.reload();
  }

  button.addEventListener("click", () => {
    paused = !paused;
    show();
  });
  const doing = () => (busy = performance.now());
  for (const kind of ["input", "keydown", "pointerdown", "pointermove", "scroll", "touchmove", "wheel"]) {
    addEventListener(kind, doing, { capture: true, passive: true });
  }
  addEventListener("compositionstart", () => (composing = true));
  addEventListener("compositionend", () => (composing = false));
  addEventListener("pagehide", () => view.save({ written, wait, paused }));
  document.addEventListener("visibilitychange", look);
  button.parentElement.hidden = false;
  show();
  return setInterval(look, 500);
})();
