// The explorer of rows: search, filter, sort, and everything that is known of one row.
const explorer = (() => {
  const PAGE = 50;
  const CHOSEN = ["rows-a", "rows-b", "rows-sort", "scatter-a", "scatter-b"];
  const state = { page: 0, order: [], open: new Set(), touched: new Set() };
  const box = (id) => document.getElementById(id);
  let [core, rows, texts, answers] = [null, null, null, null];
  let values = {};

  async function start() {
    core = await data.json("core");
    rows = await data.json("rows");
    if (!rows.ids.length || !core.settings.length) return;
    texts = core.has.texts ? await data.json("texts") : null;
    answers = core.has.answers ? await data.json("answers") : null;
    fillChoices();
    for (const id of ["a", "b", "sort", "direction", "slice", "value", "wrong"]) box(`rows-${id}`)?.addEventListener("change", update);
    box("rows-slice").addEventListener("change", fillValues, { capture: true });
    let waiting = 0;
    box("rows-search").addEventListener("input", () => {
      clearTimeout(waiting);
      waiting = setTimeout(update, 120);
    });
    for (const id of CHOSEN) box(id).addEventListener("change", () => state.touched.add(id));
    box("rows-before").addEventListener("click", () => turn(-1));
    box("rows-after").addEventListener("click", () => turn(1));
    await update();
    box("rows").dataset.ready = "yes";
  }

  function choices(select, chosen, extra = []) {
    const group = (label, options) =>
      element("optgroup", { label }, ...options.map(([value, text]) => element("option", { value, textContent: text })));
    const settings = core.settings.map((s, i) => [`setting:${i}`, s.name + (s.repeats ? ` (${s.repeats})` : "")]);
    const single = core.cells.map((c, i) => [`cell:${i}`, c.cell]).filter((_, i) => core.settings.every((s) => s.cells.length > 1 || s.cells[0] !== i));
    const groups = [group("Settings", settings), ...(single.length ? [group("Single seeds", single)] : [])];
    select.replaceChildren(...(extra.length ? [group("Rows", extra)] : []), ...groups);
    select.value = chosen;
  }

  function fillChoices() {
    chooseBest();
    const extra = [["file", "as in the file"], ["difference", "A − B"], ["distance", "A / B, either way"], ["a", "A"], ["b", "B"], ["length", "length in tokens"], ["id", "id"]];
    choices(box("rows-sort"), "file", extra);
    const slices = Object.keys(rows.slices);
    box("rows-slice").replaceChildren(element("option", { value: "", textContent: "all rows" }), ...slices.map((name) => element("option", { value: name, textContent: name })));
    fillValues();
  }

  // A is the best setting by the metric that is shown, B the best of the cheapest other strategy.
  function chooseBest() {
    const [best, first] = [core.best, metrics.now().ranked[0]];
    const other = [best.zero_shot, best.few_shot, best.qlora].find((place) => place !== undefined && place !== first) ?? first;
    for (const prefix of ["rows", "scatter"]) {
      for (const [side, place] of [["a", first], ["b", other]]) {
        const select = box(`${prefix}-${side}`);
        if (state.touched.has(select.id)) continue;
        if (select.options.length) select.value = `setting:${place}`;
        else choices(select, `setting:${place}`);
      }
    }
  }

  // After another metric was chosen: what the reader compares stays, if they chose it.
  async function remeasure() {
    if (!box("rows").dataset.ready) return;
    chooseBest();
    await update();
  }

  function fillValues() {
    const slice = rows.slices[box("rows-slice").value];
    box("rows-value").replaceChildren(...(slice ? slice.values : []).map((value, place) => element("option", { value: String(place), textContent: value })));
    box("rows-value").disabled = !slice;
  }

  const label = (select) => select.selectedOptions[0]?.textContent ?? "";

  async function update() {
    const [a, b, by] = ["a", "b", "sort"].map((id) => box(`rows-${id}`).value);
    [values.a, values.b] = [await metrics.series(a), await metrics.series(b)];
    values.other = by.includes(":") ? await metrics.series(by) : null;
    await readWrong(a, b);
    const found = filtered();
    const key = sortKey(by);
    const down = box("rows-direction").value === "down" ? -1 : 1;
    state.order = key ? found.sort((p, q) => down * compare(key(p), key(q)) || p - q) : down < 0 ? found.reverse() : found;
    state.page = 0;
    state.open.clear();
    render();
  }

  // Whether A and B are wrong, by the metric of rights and wrongs that is shown, or the run's first one.
  async function readWrong(a, b) {
    const shown = core.metrics.indexOf(metrics.now());
    const place = metrics.now().share ? shown : core.metrics.findIndex((metric) => metric.share);
    const isWrong = async (key) => Array.from(await data.series(key, place), (value) => value < 0.5);
    values.wrong = place >= 0 && box("rows-wrong")?.value ? [await isWrong(a), await isWrong(b)] : null;
  }

  const WRONG = { a: ([a]) => a, b: ([, b]) => b, "a-only": ([a, b]) => a && !b, "b-only": ([a, b]) => b && !a, both: ([a, b]) => a && b };

  const compare = (p, q) => (typeof p === "string" ? p.localeCompare(q) : p - q);

  function sortKey(by) {
    const { a, b, other } = values;
    const keys = {
      file: null,
      a: (row) => a[row],
      b: (row) => b[row],
      difference: (row) => a[row] - b[row],
      distance: (row) => Math.abs(metrics.now().name === "perplexity" ? Math.log(a[row] / b[row]) : a[row] - b[row]),
      length: (row) => rows.n_tokens[row],
      id: (row) => rows.ids[row],
    };
    return other ? (row) => other[row] : keys[by];
  }

  function filtered() {
    const wanted = box("rows-search").value.trim().toLowerCase();
    const slice = rows.slices[box("rows-slice").value];
    const code = Number(box("rows-value").value);
    const found = [];
    for (let row = 0; row < rows.ids.length; row++) {
      if (slice && slice.codes[row] !== code) continue;
      if (values.wrong && !WRONG[box("rows-wrong").value](values.wrong.map((of) => of[row]))) continue;
      if (!wanted || haystack(row).includes(wanted)) found.push(row);
    }
    return found;
  }

  const known = [];
  const haystack = (row) => (known[row] ??= [rows.ids[row], ...(texts ? texts.test[row] : [])].join("\n").toLowerCase());

  function turn(by) {
    state.page += by;
    render();
    box("rows-list").scrollIntoView({ block: "nearest" });
  }

  function render() {
    const pages = Math.max(1, Math.ceil(state.order.length / PAGE));
    const shown = state.order.slice(state.page * PAGE, (state.page + 1) * PAGE);
    const all = rows.ids.length.toLocaleString("en-US");
    box("rows-count").textContent = `${state.order.length.toLocaleString("en-US")} of ${all} rows`;
    box("rows-page").textContent = `page ${state.page + 1} of ${pages}`;
    [box("rows-before").disabled, box("rows-after").disabled] = [state.page === 0, state.page + 1 >= pages];
    box("rows-pages").hidden = pages === 1;
    box("rows-metric").textContent = metrics.now().word[0].toUpperCase() + metrics.now().word.slice(1);
    box("rows-head").replaceChildren(element("tr", {}, ...heads()));
    box("rows-list").replaceChildren(...shown.flatMap(line));
  }

  function heads() {
    const names = [["A", label(box("rows-a"))], ["B", label(box("rows-b"))], ["A − B", ""]];
    if (values.other) names.push(["Sorted by", label(box("rows-sort"))]);
    const number = ([short, long]) => element("th", { scope: "col", className: "number", title: long }, short, element("small", { textContent: long }));
    const reference = referenced() ? [element("th", { scope: "col", textContent: "Reference" })] : [];
    return [element("th", { scope: "col", textContent: "Row" }), ...reference, ...names.map(number)];
  }

  const referenced = () => metrics.now().options && answers?.known;

  // Of an answer right or wrong, and which option it was; of a mean over seeds, the share of them that is right.
  function measured(row, values, key) {
    const value = values[row];
    if (!metrics.now().share) return [data.number(value)];
    const text = value === 1 ? "right" : value === 0 ? "wrong" : data.number(value);
    const said = metrics.now().options && answers ? [...new Set(cellsOf(key).map((cell) => answers.chosen[cell][row]))] : [];
    const words = said.map((option) => answers.options[option] ?? "–").join(" / ");
    return [element("span", { className: value >= 0.5 ? "right" : "wrong", textContent: text }), words ? element("small", { textContent: words }) : null];
  }

  const cellsOf = (key) => (key.startsWith("setting:") ? core.settings[key.slice(8)].cells : [Number(key.slice(5))]);

  function line(row) {
    const open = state.open.has(row);
    const button = element("button", { type: "button", className: "open", textContent: rows.ids[row] });
    button.setAttribute("aria-expanded", String(open));
    const excerpt = texts ? element("span", { className: "excerpt", textContent: texts.test[row][0] }) : null;
    const cells = ["a", "b"].map((side) => numberCell(measured(row, values[side], box(`rows-${side}`).value), side.toUpperCase()));
    cells.push(differenceCell(row));
    if (values.other) cells.push(numberCell(measured(row, values.other, box("rows-sort").value), "sorted by"));
    if (referenced()) cells.unshift(element("td", { className: "answer-of", data: { name: "Reference" }, textContent: answers.options[answers.correct[row]] ?? "(no option)" }));
    const tr = element("tr", { className: "row", data: { row: String(row) } }, element("td", { className: "what" }, button, excerpt), ...cells);
    tr.addEventListener("click", (event) => {
      if (event.target === button || !getSelection().toString()) toggle(row, tr, button);
    });
    return [tr];
  }

  const numberCell = (children, name) => element("td", { className: "number", data: { name } }, ...children);

  // The bar's length is the ratio of two perplexities on a log scale, full at a factor of 8; of other metrics their
  // difference, full at the most there can be. It goes to the side of zero that the difference is on.
  function differenceCell(row) {
    const { name, higher, top } = metrics.now();
    const difference = values.a[row] - values.b[row];
    const ratio = name === "perplexity" ? Math.log(values.a[row] / values.b[row]) / Math.log(8) : difference / (top ?? 1);
    const bar = element("span", { className: `bar ${ratio < 0 === higher ? "worse" : "better"} ${ratio < 0 ? "below" : "above"}` });
    bar.style.width = `${Math.min(50, 50 * Math.abs(ratio)) || 0}%`;
    const text = element("span", { textContent: data.signed(difference) });
    return element("td", { className: "number difference", data: { name: "A − B" } }, bar, text);
  }

  async function toggle(row, tr, button) {
    const open = !state.open.has(row);
    button.setAttribute("aria-expanded", String(open));
    if (!open) {
      state.open.delete(row);
      if (tr.nextSibling?.className === "detail") tr.nextSibling.remove();
      return;
    }
    state.open.add(row);
    const cell = element("td", { colSpan: tr.children.length });
    const place = element("tr", { className: "detail" }, cell);
    tr.after(place);
    cell.append(await detail.of(core, rows, texts, row, [box("rows-a").value, box("rows-b").value]));
    place.dataset.ready = "yes";
  }

  // Find a row from outside (a point of the scatter plot) and open it.
  async function show(row) {
    [box("rows-search").value, box("rows-slice").value] = ["", ""];
    if (box("rows-wrong")) box("rows-wrong").value = "";
    fillValues();
    await update();
    state.page = Math.floor(state.order.indexOf(row) / PAGE);
    render();
    const tr = box("rows-list").querySelector(`tr[data-row="${row}"]`);
    await toggle(row, tr, tr.querySelector("button"));
    tr.scrollIntoView({ block: "start", behavior: "smooth" });
  }

  // What the reader chose, by names: the places of settings and cells change when the run adds some.
  function chosen() {
    if (!box("rows")?.dataset.ready) return null;
    const [slice, value] = [box("rows-slice").value, label(box("rows-value"))];
    const open = [...box("rows-list").querySelectorAll("tr.detail")].map((place) => {
      const row = Number(place.previousSibling.dataset.row);
      return { id: rows.ids[row], cell: label(place.querySelector("select") ?? { selectedOptions: [] }), all: !place.querySelector("button.plain") };
    });
    const compared = [...state.touched].map((id) => [id, nameOf(box(id).value)]);
    return { compared, slice, value, open, wrong: box("rows-wrong")?.value, search: box("rows-search").value, direction: box("rows-direction").value, page: state.page };
  }

  function nameOf(key) {
    const [kind, place] = key.split(":");
    if (!place) return key;
    return `${kind}:${core.cells[kind === "setting" ? core.settings[place].cells[0] : place].cell}`;
  }

  function keyOf(name) {
    const colon = name.indexOf(":");
    if (colon < 0) return name;
    const place = core.cells.findIndex((one) => one.cell === name.slice(colon + 1));
    return name.startsWith("setting:") ? `setting:${core.settings.findIndex((s) => s.cells.includes(place))}` : `cell:${place}`;
  }

  function choose(select, value) {
    if ([...select.options].some((option) => option.value === value)) select.value = value;
  }

  async function restore(kept) {
    if (!kept || !box("rows")?.dataset.ready) return;
    for (const [id, name] of kept.compared) {
      choose(box(id), keyOf(name));
      state.touched.add(id);
    }
    [box("rows-search").value, box("rows-direction").value] = [kept.search, kept.direction];
    if (box("rows-wrong")) choose(box("rows-wrong"), kept.wrong ?? "");
    choose(box("rows-slice"), kept.slice);
    fillValues();
    choose(box("rows-value"), String(rows.slices[box("rows-slice").value]?.values.indexOf(kept.value)));
    await update();
    state.page = Math.max(0, Math.min(kept.page, Math.ceil(state.order.length / PAGE) - 1));
    render();
    for (const { id, cell, all } of kept.open) {
      const tr = box("rows-list").querySelector(`tr[data-row="${rows.ids.indexOf(id)}"]`);
      if (!tr) continue;
      await toggle(rows.ids.indexOf(id), tr, tr.querySelector("button"));
      if (all) tr.nextSibling.querySelector("button.plain")?.click();
      const select = tr.nextSibling.querySelector("select");
      if (select && cell) {
        choose(select, String(core.cells.findIndex((one) => one.cell === cell)));
        select.dispatchEvent(new Event("change"));
      }
    }
  }

  return { chosen, remeasure, restore, show, start };
})();
