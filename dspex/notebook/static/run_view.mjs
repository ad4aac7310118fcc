// @ts-check
// The live view of a study. The page keeps one snapshot per study; what is drawn is a function of it.

/**
 * @typedef {[number, number | null, number | null, number, number, number, 0 | 1, string[]]} Row
 * @typedef {{ state: string, reason: string, planned: number, best: number | null, default: number | null,
 *   cost_usd: number, elapsed_s: number, simulated: boolean, running: [number, number, number, boolean] | null,
 *   planned_scores: number | null }} Status
 * @typedef {{ name: string, variables: string[], points: Row[], status: Status }} Snapshot
 * @typedef {{ start: number, points: Row[], status: Status }} Delta
 * @typedef {{ number: number, score: number, stderr: number | null, examples: number, failed: number,
 *   cost: number, isFinal: boolean, values: string[] }} Point
 * @typedef {{ text: string, grid: string, trial: string, best: string, finalist: string, muted: string,
 *   paper: string }} Colours
 */

// ── what is known ───────────────────────────────────────────────────────────────────────────────

/** Put news into a snapshot. Heard twice or late, it changes nothing; null says that points are missing.
 * @param {Snapshot} old @param {Delta} news @returns {Snapshot | null} */
export function merge(old, news) {
  if (news.start > old.points.length) return null;
  const end = news.start + news.points.length;
  if (end < old.points.length) return old;
  return { ...old, points: [...old.points.slice(0, news.start), ...news.points], status: news.status };
}

/** How strong a trial is drawn whose score says little yet. */
const FAINT = 0.35;

/** The trials that have a place on an axis. @param {Snapshot} shown @returns {Point[]} */
export function points(shown) {
  return shown.points
    .map(([number, score, stderr, examples, failed, cost, final, values]) => (
      { number, score: score ?? NaN, stderr, examples, failed, cost, isFinal: final === 1, values }
    ))
    .filter((point) => Number.isFinite(point.score));
}

/** The trials of the search that were scored on enough examples, half of the most, and those on fewer.
 * @param {Point[]} all @returns {[Point[], Point[]]} */
export function byExamples(all) {
  const search = all.filter((point) => !point.isFinal);
  const enough = Math.max(0, ...search.map((point) => point.examples)) / 2;
  return [search.filter((point) => point.examples >= enough), search.filter((point) => point.examples < enough)];
}

/** The highest score up to each trial of the search that was scored on enough examples.
 * @param {Point[]} all @returns {[number, number][]} */
export function bestSoFar(all) {
  let best = -Infinity;
  return byExamples(all)[0].map((point) => [point.number, (best = Math.max(best, point.score))]);
}

/** @param {Snapshot} shown */
const bestPoint = (shown) => points(shown).find((point) => point.number === shown.status.best);

/** @param {Snapshot} shown */
export const isRunning = (shown) => ["queued", "running"].includes(shown.status.state);

// ── in words ────────────────────────────────────────────────────────────────────────────────────

/** @param {number} seconds */
export function duration(seconds) {
  const [hours, minutes, rest] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, Math.floor(seconds % 60)];
  const pad = (/** @type {number} */ value) => String(value).padStart(2, "0");
  return hours ? `${hours}:${pad(minutes)}:${pad(rest)}` : `${minutes}:${pad(rest)}`;
}

/** @param {number} usd */
export const dollars = (usd) => `$${usd.toFixed(usd >= 1 ? 2 : 4)}`;

/** @param {Point} point */
const scoreText = (point) => point.score.toFixed(3) + (point.stderr === null ? "" : ` ± ${point.stderr.toFixed(3)}`);

/** The state in one line. @param {Snapshot} shown @param {boolean} [cancelling] */
export function statusLine({ points: rows, status }, cancelling = false) {
  if (status.state !== "running") {
    const reason = status.reason && status.reason !== status.state ? `: ${status.reason}` : "";
    return `${status.state[0].toUpperCase()}${status.state.slice(1)}${reason}, ${rows.length} trials scored`;
  }
  if (cancelling) return "Cancelling. While a cell is running, interrupt the kernel instead.";
  if (!status.running) return "Starting";
  const [number, done, of, isFinal] = status.running;
  const what = isFinal ? "Scoring the finalists" : `Trial ${number + 1}${status.planned ? ` of at most ${status.planned}` : ""}`;
  return `${what}, ${done} of ${of} examples${status.reason ? `; ${status.reason}` : ""}`;
}

/** The share of the work that is done, in [0, 1]. @param {Snapshot} shown */
export function progress({ points: rows, status }) {
  if (status.state === "finished") return 1;
  const search = rows.filter((row) => !row[6]);
  if (status.planned_scores) return Math.min(1, search.reduce((sum, row) => sum + row[3], 0) / status.planned_scores);
  const searched = search.length;
  const [number, done, of] = status.running ?? [0, 0, 1];
  const part = number === searched && number === rows.length ? done / Math.max(of, 1) : 0;
  // An optimizer of DSPy does not say how many programs it will try.
  return status.planned ? Math.min(1, (searched + part) / status.planned) : 0;
}

/** Label, value and remark of each number that matters. @param {Snapshot} shown @returns {[string, string, string][]} */
export function facts(shown) {
  const { status } = shown;
  const best = bestPoint(shown);
  return [
    ["best", best ? best.score.toFixed(3) : "–", best?.stderr == null ? "" : `± ${best.stderr.toFixed(3)}`],
    ["default", status.default === null ? "–" : status.default.toFixed(3), ""],
    ["cost", dollars(status.cost_usd), status.simulated ? "simulated" : ""],
    ["elapsed", duration(status.elapsed_s), ""],
  ];
}

/** The plot for those who do not see it. @param {Snapshot} shown */
export function figureSummary(shown) {
  const best = bestPoint(shown);
  const scored = `Scores of ${shown.points.length} trials.`;
  if (!best) return scored;
  const base = shown.status.default === null ? "" : ` The default has ${shown.status.default.toFixed(3)}.`;
  return `${scored} Best is trial ${best.number} with ${scoreText(best)}.${base}`;
}

/** One line each: what a trial was. @param {Point} point @param {string[]} variables */
export function describe(point, variables) {
  const failed = point.failed ? `, ${point.failed} failed` : "";
  return [
    `trial ${point.number}: ${scoreText(point)}`,
    ...variables.map((name, k) => `${name} = ${point.values[k]}`),
    `${point.examples} examples${failed}, ${dollars(point.cost)}`,
  ];
}

/** @param {string} text */
const escaped = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;");

// ── as a plot ───────────────────────────────────────────────────────────────────────────────────

/** What plotly draws. @param {Snapshot} shown @param {Colours} colours */
export function traces(shown, colours) {
  const all = points(shown);
  const line = bestSoFar(all);
  const [known, young] = byExamples(all);
  const marks = (/** @type {string} */ name, /** @type {Point[]} */ some, /** @type {object} */ marker) => ({
    type: "scatter", mode: "markers", name, marker: { size: 9, ...marker },
    x: some.map((point) => point.number), y: some.map((point) => point.score),
    text: some.map((point) => describe(point, shown.variables).map(escaped).join("<br>")),
    hovertemplate: "%{text}<extra></extra>", showlegend: some.length > 0,
  });
  return [
    { type: "scatter", mode: "lines", name: "best so far", hoverinfo: "skip",
      line: { shape: "hv", width: 2, color: colours.best },
      x: line.map(([number]) => number), y: line.map(([, score]) => score) },
    marks("trial", known, { color: colours.trial }),
    marks("finalist, on all examples", all.filter((point) => point.isFinal),
      { color: colours.finalist, symbol: "diamond", size: 11 }),
    marks("trial, on few examples", young, { color: colours.trial, opacity: FAINT }),
  ];
}

/** Plotly's layout. @param {Snapshot} shown @param {Colours} colours */
export function layout(shown, colours) {
  const base = shown.status.default;
  const last = Math.max(shown.points.length - 1, 1);
  const axis = (/** @type {string} */ title) => ({
    title: { text: title, standoff: 6 }, gridcolor: colours.grid, linecolor: colours.grid, zeroline: false,
    automargin: true,
  });
  return {
    autosize: true, uirevision: "kept", margin: { l: 52, r: 12, t: 28, b: 40 },
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: colours.text, size: 12 },
    hoverlabel: { bgcolor: colours.paper, bordercolor: colours.muted, font: { color: colours.text }, align: "left" },
    legend: { orientation: "h", x: 0, y: 1.01, yanchor: "bottom" },
    xaxis: { ...axis("trial"), showgrid: false, range: [-0.6, last + 0.6], tickformat: "d", ...(last < 10 ? { dtick: 1 } : {}) },
    yaxis: axis("score"),
    shapes: base === null ? [] : [
      { type: "line", xref: "paper", x0: 0, x1: 1, y0: base, y1: base, line: { dash: "dash", width: 1.5, color: colours.muted } },
    ],
    annotations: base === null ? [] : [
      { xref: "paper", x: 1, xanchor: "right", y: base, yanchor: "bottom", text: "default", showarrow: false,
        font: { color: colours.muted } },
    ],
  };
}

/** Round numbers within [low, high]. @param {number} low @param {number} high @param {number} count */
export function ticks(low, high, count) {
  const rough = (high - low) / count;
  const magnitude = 10 ** Math.floor(Math.log10(rough));
  const step = magnitude * ([1, 2, 5].find((size) => size * magnitude >= 0.75 * rough) ?? 10);
  const made = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k++) made.push(Number((k * step).toPrecision(12)));
  return made;
}

/** The same plot as SVG elements, for as long as plotly is not there.
 * @param {Snapshot} shown @param {Colours} colours @param {number} width @param {number} height
 * @returns {{ tag: string, attributes: Record<string, string | number>, text?: string, title?: string }[]} */
export function drawing(shown, colours, width, height) {
  const all = points(shown);
  if (!all.length) return [];
  const base = shown.status.default;
  const values = [...all.map((point) => point.score), ...(base === null ? [] : [base])];
  const [least, most] = [Math.min(...values), Math.max(...values)];
  const margin = 0.08 * (most - least) || 0.1 * Math.max(Math.abs(most), 1);
  const [low, high] = [least - margin, most + margin];
  const [left, right, top, bottom] = [52, width - 12, 28, height - 40];
  const last = Math.max(all[all.length - 1].number, 1);
  const x = (/** @type {number} */ number) => Math.round(10 * (left + ((right - left) * (number + 0.5)) / (last + 1))) / 10;
  const y = (/** @type {number} */ score) => Math.round(10 * (top + ((bottom - top) * (high - score)) / (high - low))) / 10;
  /** @type {ReturnType<typeof drawing>} */
  const made = [];
  const add = (/** @type {string} */ tag, /** @type {Record<string, string | number>} */ attributes, text = "", title = "") =>
    made.push({ tag, attributes, text, title });
  const write = (/** @type {number} */ px, /** @type {number} */ py, /** @type {string} */ text, anchor = "middle", more = {}) =>
    add("text", { x: px, y: py, "text-anchor": anchor, "font-size": 12, ...more }, text);
  for (const value of ticks(low, high, 5)) {
    add("path", { d: `M${left} ${y(value)}H${right}`, stroke: colours.grid });
    write(left - 6, y(value), String(value), "end", { dy: ".35em" });
  }
  for (const value of ticks(0, last, 8)) if (Number.isInteger(value)) write(x(value), bottom + 16, String(value));
  write((left + right) / 2, height - 6, "trial");
  write(-(top + bottom) / 2, 12, "score", "middle", { transform: "rotate(-90)" });
  if (base !== null) {
    add("path", { d: `M${left} ${y(base)}H${right}`, stroke: colours.muted, "stroke-width": 1.5, "stroke-dasharray": "8 6" });
    write(right, y(base) - 4, "default", "end");
  }
  const line = bestSoFar(all);
  if (line.length) {
    const steps = line.slice(1).map(([number, score]) => `H${x(number)}V${y(score)}`);
    add("path", { d: `M${x(line[0][0])} ${y(line[0][1])}${steps.join("")}`, fill: "none", stroke: colours.best, "stroke-width": 2 });
  }
  const [, young] = byExamples(all);
  for (const point of all) {
    const [px, py, title] = [x(point.number), y(point.score), describe(point, shown.variables).join("\n")];
    if (point.isFinal) add("path", { d: `M${px} ${py}m0 -6l6 6l-6 6l-6 -6z`, fill: colours.finalist }, "", title);
    else add("circle", { cx: px, cy: py, r: 4.5, fill: colours.trial, ...(young.includes(point) ? { opacity: FAINT } : {}) }, "", title);
  }
  return made;
}

// ── plotly, once per page ───────────────────────────────────────────────────────────────────────

/** @param {BlobPart} packed */
export function gunzip(packed) {
  return new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
}

/** Run plotly.js on this page and return what it defines. @param {string} source @returns {Promise<any>} */
function evaluate(source) {
  const page = /** @type {any} */ (window);
  const { define, Plotly } = page; // with an AMD loader on the page, the bundle would register there instead
  page.define = undefined;
  const script = document.createElement("script");
  script.src = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
  return new Promise((resolve, reject) => {
    script.onload = () => resolve(page.Plotly);
    script.onerror = () => reject(new Error("this page does not allow plotly.js to run"));
    document.head.append(script);
  }).finally(() => {
    page.define = define;
    if (Plotly) page.Plotly = Plotly;
    URL.revokeObjectURL(script.src);
    script.remove();
  });
}

const ASK_AGAIN_MS = 30_000; // a kernel that was restarted meanwhile never answers

/** The page's plotly, asked for if nobody has. @param {any} model @returns {Promise<any>} */
function plotly(model) {
  const page = /** @type {any} */ (window);
  if (!page.__dspexPlotly) {
    page.__dspexPlotly = new Promise((resolve) => (page.__dspexPlotlyArrived = resolve));
    page.__dspexPlotlyAsked = -Infinity;
  }
  if (Date.now() - page.__dspexPlotlyAsked > ASK_AGAIN_MS) {
    page.__dspexPlotlyAsked = Date.now();
    model.send({ type: "need-plotly" });
  }
  return page.__dspexPlotly;
}

/** @param {DataView[]} buffers */
async function receivePlotly(buffers) {
  const page = /** @type {any} */ (window);
  if (!buffers.length) return; // not installed: the picture stays
  page.__dspexPlotlyAsked = Infinity;
  try {
    page.__dspexPlotlyArrived(await evaluate(await gunzip(/** @type {any} */ (buffers[0]))));
  } catch (error) {
    console.warn("dspex draws without plotly:", error);
  }
}

// ── on the page ─────────────────────────────────────────────────────────────────────────────────

/** Call `act` at most once per `period` ms, at the latest one period after it was last asked for.
 * @param {() => void} act @param {number} period
 * @param {() => number} [clock] @param {(act: () => void, ms: number) => unknown} [later] */
export function throttled(act, period, clock = Date.now, later = setTimeout) {
  let last = -Infinity;
  let waiting = false;
  return () => {
    if (waiting) return;
    const wait = last + period - clock();
    const run = () => ((waiting = false), (last = clock()), act());
    if (wait <= 0) return run();
    waiting = true;
    later(run, wait);
  };
}

/** @param {string} tag @param {Record<string, string>} [attributes] @param {(Node | string)[]} children */
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** Colours of the theme that is on now. @param {Element} el @returns {Colours} */
function coloursOf(el) {
  const style = getComputedStyle(el);
  const read = (/** @type {string} */ name, /** @type {string} */ fallback) => style.getPropertyValue(name).trim() || fallback;
  return {
    text: read("--jp-ui-font-color1", style.color), muted: read("--jp-ui-font-color2", style.color),
    grid: read("--jp-border-color2", "#8884"), paper: read("--jp-layout-color1", "Canvas"),
    trial: read("--jp-brand-color1", "#0072B2"), best: read("--jp-success-color1", "#009E73"),
    finalist: read("--jp-warn-color0", "#D55E00"),
  };
}

/** @param {ReturnType<typeof drawing>} parts @param {number} width @param {number} height */
function svg(parts, width, height) {
  const space = "http://www.w3.org/2000/svg";
  const root = document.createElementNS(space, "svg");
  for (const [name, value] of [["width", width], ["height", height], ["aria-hidden", "true"]]) root.setAttribute(String(name), String(value));
  for (const { tag, attributes, text, title } of parts) {
    const made = document.createElementNS(space, tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, String(value));
    if (text) made.textContent = text;
    if (title) made.append(document.createElementNS(space, "title"));
    if (title && made.lastChild) made.lastChild.textContent = title;
    root.append(made);
  }
  return root;
}

/** Keep the model's snapshot up to date; every view of it draws that. @param {{ model: any }} context */
function initialize({ model }) {
  const ask = () => model.send({ type: "need-points", have: model.get("snapshot").points.length });
  const onMessage = (/** @type {any} */ message, /** @type {DataView[]} */ buffers) => {
    if (message.type === "plotly") receivePlotly(buffers);
    if (message.type !== "delta") return;
    const merged = merge(model.get("snapshot"), message);
    if (merged) model.set("snapshot", merged);
    else ask();
  };
  model.on("msg:custom", onMessage);
  if (isRunning(model.get("snapshot"))) ask(); // what was sent before this module was loaded
  return () => model.off("msg:custom", onMessage);
}

/** @param {{ model: any, el: HTMLElement }} context */
function render({ model, el }) {
  const read = () => /** @type {Snapshot} */ (model.get("snapshot"));
  const title = element("strong", {}, read().name);
  const bar = element("progress", { "aria-label": "Trials done", max: "1" });
  const button = /** @type {HTMLButtonElement} */ (element("button", { type: "button" }, "Cancel"));
  const status = element("p", { role: "status", "aria-live": "polite" });
  const numbers = element("dl");
  const figure = element("div", { class: "dspex-run-figure", role: "figure", tabindex: "0" });
  const table = element("table");
  const root = element("div", { class: "dspex-run" }, element("div", { class: "dspex-run-head" }, title, bar, button),
    status, numbers, figure, table);
  el.append(root);

  /** @type {any} */
  let Plotly = null;
  let cancelling = false;
  let frame = 0;
  let gone = false;

  const say = throttled(() => {
    const line = statusLine(read(), cancelling);
    if (status.textContent !== line) status.textContent = line;
  }, 1000);

  const draw = () => {
    frame = 0;
    const shown = read();
    say();
    bar.setAttribute("value", String(progress(shown)));
    button.disabled = !isRunning(shown) || cancelling;
    numbers.replaceChildren(...facts(shown).map(([label, value, remark]) =>
      element("div", {}, element("dt", {}, label), element("dd", {}, value, " ", element("small", {}, remark)))));
    figure.setAttribute("aria-label", figureSummary(shown));
    const best = bestPoint(shown);
    table.replaceChildren(...(best ? [element("caption", {}, `Best configuration (trial ${best.number})`),
      ...shown.variables.map((name, k) => element("tr", {}, element("th", { scope: "row" }, name), element("td", {}, best.values[k])))] : []));
    const colours = coloursOf(root);
    if (Plotly) {
      Plotly.react(figure, traces(shown, colours), layout(shown, colours), { displaylogo: false, displayModeBar: false, responsive: false });
    } else {
      const width = figure.clientWidth || 680;
      figure.replaceChildren(svg(drawing(shown, colours, width, 280), width, 280));
    }
  };
  const redraw = () => { frame ||= requestAnimationFrame(draw); };

  button.addEventListener("click", () => {
    cancelling = true;
    model.send({ type: "cancel" });
    redraw();
  });
  model.on("change:snapshot", redraw);
  const theme = new MutationObserver(redraw);
  theme.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light", "class"] });
  const size = new ResizeObserver(() => { if (Plotly && figure.clientWidth) Plotly.Plots.resize(figure); else redraw(); });
  size.observe(figure);
  draw();
  plotly(model).then((loaded) => {
    if (gone) return;
    figure.replaceChildren();
    Plotly = loaded;
    redraw();
  });

  return () => {
    gone = true;
    cancelAnimationFrame(frame);
    model.off("change:snapshot", redraw);
    theme.disconnect();
    size.disconnect();
    if (Plotly) Plotly.purge(figure);
  };
}

export default { initialize, render };
