// Unpacks what the page carries (gzip in base64, see payload.py) when it is first asked for, and writes numbers.
const data = (() => {
  const kept = new Map();

  function fromBase64(text) {
    if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
    const characters = atob(text);
    const bytes = new Uint8Array(characters.length);
    for (let i = 0; i < bytes.length; i++) bytes[i] = characters.charCodeAt(i);
    return bytes;
  }

  async function unpack(name) {
    const tag = document.getElementById(`data-${name}`);
    if (!tag) throw new Error(`this report carries no ${name}`);
    const packed = new Blob([fromBase64(tag.textContent.trim())]);
    return new Response(packed.stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
  }

  function once(name, make) {
    if (!kept.has(name)) kept.set(name, make());
    return kept.get(name);
  }

  const json = (name) =>
    once(name, async () => JSON.parse(new TextDecoder().decode(await unpack(name))));

  // ln(ppl) of every row in every cell; undoes packing.pack_logs
  const scores = () =>
    once("scores", async () => {
      const [core, rows, buffer] = [await json("core"), await json("rows"), await unpack("scores")];
      const bytes = new Uint8Array(buffer);
      const [count, size] = [rows.ids.length, core.cells.length * rows.ids.length];
      const codes = new Uint16Array(size);
      for (let i = 0; i < size; i++) {
        codes[i] = ((bytes[i] << 8) | bytes[size + i]) + (i < count ? 0 : codes[i - count]);
      }
      return { count, ppl: (cell, row) => Math.exp(codes[cell * count + row] * core.steps.log) };
    });

  // What every row has in every cell of a metric other than perplexity, by its place among the core's metrics.
  const measured = (place) =>
    once(`values ${place}`, async () => {
      const [rows, buffer] = [await json("rows"), await unpack(`values-${place}`)];
      const [count, view] = [rows.ids.length, new DataView(buffer)];
      return { count, ppl: (cell, row) => view.getFloat32(4 * (cell * count + row), true) };
    });

  // Values of the rows for one choice: a setting (mean over its seeds) or a single cell. Of perplexity, or of another
  // metric by its place; NaN where a row has none.
  async function series(key, metric = -1) {
    return once(`series ${metric} ${key}`, async () => {
      const [core, known] = [await json("core"), metric < 0 ? await scores() : await measured(metric)];
      const [kind, place] = key.split(":");
      const cells = kind === "setting" ? core.settings[place].cells : [Number(place)];
      const values = new Float64Array(known.count);
      for (let row = 0; row < known.count; row++) {
        for (const cell of cells) values[row] += known.ppl(cell, row) / cells.length;
      }
      return values;
    });
  }

  const library = () =>
    once("library", async () => {
      const script = document.createElement("script");
      script.textContent = new TextDecoder().decode(await unpack("plotly"));
      document.head.append(script);
      return window.Plotly;
    });

  function number(value) {
    if (!Number.isFinite(value)) return "–";
    const size = Math.abs(value);
    const exponent = size ? Math.floor(Math.log10(Number(size.toPrecision(3)))) : 0;
    const places = Math.max(0, Math.min(6, 2 - exponent));
    const text = size.toLocaleString("en-US", { minimumFractionDigits: places, maximumFractionDigits: places });
    return value < 0 && Number(text.replace(/,/g, "")) ? `−${text}` : text;
  }

  const signed = (value) => (value > 0 ? `+${number(value)}` : number(value));

  return { json, library, number, scores, series, signed };
})();

// Makes an element. Text goes in as text, never as HTML: rows are other people's words.
function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "data") Object.assign(made.dataset, value);
    else if (name in made) made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}
