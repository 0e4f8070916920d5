// What the reader has before them, kept while the page of a run that goes on is loaded again: the place on the page,
// open rows and sections, what was chosen and typed. Kept for this tab alone, under the page's own path.
const view = (() => {
  const KEY = `triptych-view ${location.pathname}`;
  const PLACES = "main [id], main [data-view], main [data-plot], main tr.row";
  const NAV = 56; // pixels that the bar on top covers
  let kept = stored();
  if (kept && !document.getElementById("so-far")) store(null); // the report is whole: nothing loads it again

  function stored() {
    // a file opened from a folder may have no storage
    try {
      return JSON.parse(sessionStorage.getItem(KEY));
    } catch {
      return null;
    }
  }

  function store(value) {
    try {
      if (value) sessionStorage.setItem(KEY, JSON.stringify(value));
      else sessionStorage.removeItem(KEY);
    } catch {
      // then the page begins at its top
    }
  }

  const name = (place) => place.querySelector(".open")?.textContent ?? place.dataset.view ?? place.dataset.plot ?? place.id;

  // The element nearest to the top of the window, and where it is: what is above it may be of another height next time.
  function anchor() {
    if (scrollY < 8) return null;
    let nearest = null;
    for (const place of document.querySelectorAll(PLACES)) {
      const { top, height } = place.getBoundingClientRect();
      if (height && (!nearest || Math.abs(top - NAV) < Math.abs(nearest.top - NAV))) nearest = { name: name(place), top };
    }
    return nearest;
  }

  function save(more) {
    if (kept) return store({ ...kept, ...more }); // it isn't restored yet
    const at = document.activeElement;
    const sections = [...document.querySelectorAll("details[data-view]")].map((one) => [one.dataset.view, one.open]);
    const focus = at?.id ? { id: at.id, ends: at.id === "rows-search" ? [at.selectionStart, at.selectionEnd] : null } : null;
    store({ ...more, sections, focus, theme: root.dataset.theme, metric: root.dataset.metric, anchor: anchor(), explorer: explorer.chosen() });
    return (history.scrollRestoration = "manual");
  }

  async function restore() {
    const found = kept;
    kept = null;
    if (!found) return;
    if (found.theme && found.theme !== root.dataset.theme) setTheme(found.theme);
    const sections = new Map(found.sections);
    for (const one of document.querySelectorAll("details[data-view]")) one.open = sections.get(one.dataset.view) ?? one.open;
    if (found.metric) await metrics.choose(found.metric);
    await explorer.restore(found.explorer);
    const focused = found.focus && document.getElementById(found.focus.id);
    focused?.focus({ preventScroll: true });
    if (found.focus?.ends) focused?.setSelectionRange(...found.focus.ends);
    if (found.anchor) {
      const place = [...document.querySelectorAll(PLACES)].find((one) => name(one) === found.anchor.name);
      if (place) scrollBy({ top: place.getBoundingClientRect().top - found.anchor.top, behavior: "instant" });
    }
    history.scrollRestoration = "auto";
  }

  return { restore, save, stored };
})();
