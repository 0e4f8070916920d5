// Everything that is known of one row: texts, tokens coloured by NLL, its perplexities, the prompt as the model saw it.
const detail = (() => {
  const FULL = 8; // nats at which a token's colour is full: a probability of 0.03 %

  async function of(core, rows, texts, row, chosen) {
    const parts = [];
    if (texts) {
      const [instruction, output] = texts.test[row];
      parts.push(text("Instruction", instruction), text("Reference output", output));
    }
    const chunk = core.has.texts ? await data.json(`chunk-${Math.floor(row / core.steps.chunk)}`) : null;
    const place = row % core.steps.chunk;
    if (core.has.answers) parts.push(...(await options(core, row, place, chosen)));
    if (core.has.written) parts.push(...(await written(core, row, place)));
    if (chunk?.pieces) parts.push(tokens(core, chunk, place, chosen));
    parts.push(await levels(core, row));
    if (chunk) parts.push(prompt(core, chunk, place, texts, row, chosen[0]));
    const facts = `${rows.n_tokens[row]} scored tokens` + Object.entries(rows.slices).map(([name, slice]) => (slice.codes[row] < 0 ? "" : ` · ${name}: ${slice.values[slice.codes[row]]}`)).join("");
    return element("div", { className: "facts" }, element("p", { className: "muted", textContent: facts }), ...parts);
  }

  const section = (title, ...children) => element("section", {}, element("h4", { textContent: title }), ...children);
  const text = (title, words) => section(title, element("p", { className: "words", textContent: words }));

  const cellsOf = (core, key) => {
    const [kind, place] = key.split(":");
    return kind === "setting" ? [core.settings[place].cells[0]] : [Number(place)];
  };

  function nameOf(core, cell) {
    const setting = core.settings.find((s) => s.cells.includes(cell));
    const repeat = core.cells[cell].repeat;
    return [setting.name + (setting.cells.length > 1 && repeat ? `, ${repeat}` : ""), setting.strategy];
  }

  // The likeliest options of a row in the best cell of each strategy and the two that are compared, with their
  // probabilities given that one of the options is the answer.
  async function options(core, row, place, chosen) {
    const answers = await data.json("answers");
    if (!answers.known) return [];
    const chunk = await data.json(`options-${Math.floor(row / core.steps.chunk)}`);
    const cells = [...new Set([...Object.values(core.best).map((b) => core.settings[b].cells[0]), ...chosen.flatMap((key) => cellsOf(core, key))])];
    const lines = cells.filter((cell) => chunk[cell][place].length).map((cell) => {
      const [name, strategy] = nameOf(core, cell);
      const marks = chunk[cell][place].map(([option, share]) => {
        const kinds = [option === answers.correct[row] ? "correct" : "", option === answers.chosen[cell][row] ? "chosen" : ""];
        const mark = element("span", { className: `option ${kinds.join(" ")}`.trim() }, answers.options[option], " ", element("b", { textContent: percent(share) }));
        mark.style.setProperty("--share", `${Math.round(100 * share)}%`);
        return mark;
      });
      return element("div", { className: "line", data: { cell: core.cells[cell].cell } }, element("span", { className: `name ${strategy}`, textContent: name }), element("span", { className: `options ${strategy}` }, ...marks));
    });
    const note = answers.correct[row] < 0 ? "The reference is none of the options." : `The reference is ${answers.options[answers.correct[row]]}, framed here. The first is the answer.`;
    return lines.length ? [section("The likeliest options", element("div", { className: "texts" }, ...lines), element("p", { className: "muted", textContent: note }))] : [];
  }

  // What the model wrote in each cell that was asked to.
  async function written(core, row, place) {
    const cells = await data.json(`written-${Math.floor(row / core.steps.chunk)}`);
    const lines = cells.filter(([, said]) => said[place]).map(([cell, said]) => {
      const [chrf, words] = said[place];
      const [name, strategy] = nameOf(core, cell);
      const head = element("span", { className: `name ${strategy}` }, name, element("span", { className: "chrf", textContent: `chrF++ ${data.number(chrf)}` }));
      return element("div", { className: "line", data: { cell: core.cells[cell].cell } }, head, element("span", { className: "words", textContent: words }));
    });
    return lines.length ? [section("What the models wrote", element("div", { className: "texts" }, ...lines))] : [];
  }

  function tokens(core, chunk, place, chosen) {
    const caption = element("p", { className: "muted caption", textContent: "The stronger the colour, the less the model expected it. Choose a token for its numbers." });
    caption.setAttribute("aria-live", "polite");
    const lines = element("div", { className: "tokens" });
    const some = [...new Set([...Object.values(core.best).map((b) => core.settings[b].cells[0]), ...chosen.flatMap((key) => cellsOf(core, key))])];
    const fill = (cells) => lines.replaceChildren(...cells.filter((cell) => chunk.nll[cell]).map((cell) => tokenLine(core, chunk, place, cell, caption)));
    fill(some);
    const all = element("button", { type: "button", className: "plain", textContent: `Show all ${core.cells.length} cells` });
    all.addEventListener("click", () => {
      fill(core.cells.map((_, i) => i));
      all.remove();
    });
    return section("Tokens by how unexpected they are", scale(), lines, caption, core.cells.length > some.length ? all : null);
  }

  function scale() {
    const steps = [0, 2, 4, 6, 8].map((nats) => {
      const mark = element("span", { className: "token", textContent: nats === FULL ? `${nats}+` : String(nats) });
      colour(mark, nats);
      return mark;
    });
    return element("p", { className: "scale muted" }, "NLL in nats: ", ...steps);
  }

  const colour = (mark, nats) => mark.style.setProperty("--heat", String(Math.round(Math.min(1, nats / FULL) * 80) / 100));

  function tokenLine(core, chunk, place, cell, caption) {
    const codes = Array.from(chunk.nll[cell][place], (c) => (c.codePointAt(0) - 0x23) * core.steps.nll);
    let at = 0;
    const marks = chunk.pieces[place].map((piece, i) => {
      const nats = codes.slice(at, (at += chunk.sizes[place][i])).reduce((sum, value) => sum + value, 0);
      const mark = element("span", { className: "token", textContent: piece.replace(/\n/g, "⏎\n") || "∅" });
      colour(mark, nats);
      const size = chunk.sizes[place][i];
      mark.title = `“${piece}”: ${nats.toFixed(1)} nats, p = ${percent(Math.exp(-nats))}${size > 1 ? `, ${size} tokens` : ""}`;
      mark.addEventListener("click", () => (caption.textContent = mark.title));
      return mark;
    });
    const [name, strategy] = nameOf(core, cell);
    const head = element("span", { className: `name ${strategy}`, textContent: name });
    return element("div", { className: "line", data: { cell: core.cells[cell].cell } }, head, element("span", { className: "words" }, ...marks));
  }

  const percent = (p) => (p >= 0.1 ? `${Math.round(p * 100)} %` : `${Number((p * 100).toPrecision(1))} %`);

  // A dot on a log scale for every setting.
  async function levels(core, row) {
    const found = await Promise.all(core.settings.map(async (s, i) => [s, (await data.series(`setting:${i}`))[row]]));
    const logs = found.map(([, ppl]) => Math.log(ppl));
    const [low, high] = [Math.min(...logs), Math.max(...logs)];
    const lines = found.map(([setting, ppl]) => {
      const dot = element("span", { className: `dot ${setting.strategy}` });
      dot.style.left = `${high > low ? (100 * (Math.log(ppl) - low)) / (high - low) : 50}%`;
      const track = element("span", { className: "track" }, dot);
      return element("li", {}, element("span", { textContent: setting.name }), track, element("b", { textContent: data.number(ppl) }));
    });
    return section("Perplexity of this row", element("ul", { className: "levels" }, ...lines));
  }

  // Rebuilds what prompts.Template.prompt built: only these names are replaced, in one pass, so braces in data stay.
  const fill = (template, known) => template.replace(/\{(\w+)\}/g, (whole, name) => (Object.hasOwn(known, name) ? known[name] : whole));

  function pieces(template, instruction, demos) {
    const common = { preamble: template.preamble ?? "", k: String(demos.length), instruction };
    if (!demos.length) return [["", fill(template.zero_shot, common)]];
    const { head, demo, tail } = template.few_shot;
    const shown = demos.map(([asked, wanted], i) => ["demo", fill(demo, { ...common, i: String(i + 1), instruction: asked, output: wanted })]);
    return [["", fill(head, common)], ...shown, ["", fill(tail, common)]];
  }

  function shownDemos(shown, asked) {
    if (!asked) return "";
    return `${shown} demonstration${shown === 1 ? "" : "s"}${shown < asked ? `, ${asked - shown} more did not fit` : ""}.`;
  }

  function prompt(core, chunk, place, texts, row, first) {
    const select = element("select", {}, ...core.cells.map((cell, i) => element("option", { value: String(i), textContent: cell.cell })));
    select.setAttribute("aria-label", "cell whose prompt is shown");
    const shown = element("pre", { className: "prompt" });
    const note = element("p", { className: "muted" });
    const draw = () => {
      const cell = core.cells[select.value];
      const template = core.prompts[cell.prompt];
      const demos = chunk.demos[select.value]?.[place] ?? [];
      const missing = !template || (demos.length && !template.few_shot) || demos.some((demo) => demo < 0);
      if (missing) {
        shown.replaceChildren("The records don't hold this prompt's template or its demonstrations.");
        return;
      }
      const parts = pieces(template, texts.test[row][0], demos.map((demo) => texts.demo[demo]));
      shown.replaceChildren(...parts.map(([kind, words]) => (kind ? element("span", { className: kind, textContent: words }) : words)));
      note.textContent = `After BOS the model reads exactly this; the output that follows is scored. ${shownDemos(demos.length, cell.k)}`;
    };
    select.value = String(cellsOf(core, first)[0]);
    select.addEventListener("change", draw);
    draw();
    return section("The prompt as the model saw it", select, shown, note);
  }

  return { of };
})();
