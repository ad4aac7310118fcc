// What the live view computes: `node --test tests/notebook/run_view.test.mjs`.
import assert from "node:assert/strict";
import { test } from "node:test";
import { gzipSync } from "node:zlib";

import * as view from "../../dspex/notebook/static/run_view.mjs";

const status = {
  state: "running", reason: "", planned: 4, best: 1, default: 0.5, cost_usd: 0.01234, elapsed_s: 75,
  simulated: true, running: [2, 3, 10, false], planned_scores: null,
};
const row = (number, score, final = 0, examples = 10) => [number, score, 0.05, examples, 0, 0.001, final, ["0.7", "<a&b>"]];
const shown = { name: "s", variables: ["temperature", "model"], points: [row(0, 0.5), row(1, 0.8)], status };
const colours = { text: "black", muted: "gray", grid: "silver", paper: "white", trial: "blue", best: "green", finalist: "orange" };

test("deltas that are doubled or late leave the snapshot as it was, and a gap is noticed", () => {
  const third = { start: 2, points: [row(2, 0.6)], status: { ...status, cost_usd: 0.02 } };
  const once = view.merge(shown, third);
  assert.deepEqual(once.points.map((each) => each[0]), [0, 1, 2]);
  assert.deepEqual(view.merge(once, third), once);
  assert.equal(view.merge(once, { start: 0, points: [row(0, 0.5)], status }), once);
  assert.equal(view.merge(shown, { ...third, start: 3 }), null);
});

test("the best so far never falls, and finalists are no part of it", () => {
  const all = view.points({ ...shown, points: [row(0, 0.5), row(1, 0.8), row(2, 0.6), row(3, 0.9, 1)] });
  assert.deepEqual(view.bestSoFar(all), [[0, 0.5], [1, 0.8], [2, 0.8]]);
});

test("a score that JSON cannot say has no place on the plot", () => {
  assert.equal(view.points({ ...shown, points: [row(0, null)] }).length, 0);
});

test("the status line says what is going on", () => {
  assert.equal(view.statusLine(shown), "Trial 3 of at most 4, 3 of 10 examples");
  assert.match(view.statusLine({ ...shown, status: { ...status, running: [4, 3, 40, true] } }), /^Scoring the finalists, 3 of 40/);
  assert.equal(view.statusLine({ ...shown, status: { ...status, reason: "waits for a/b: its breaker is open" } }),
    "Trial 3 of at most 4, 3 of 10 examples; waits for a/b: its breaker is open");
  assert.match(view.statusLine(shown, true), /^Cancelling/);
  assert.equal(view.statusLine({ ...shown, status: { ...status, state: "finished", reason: "4 trials done" } }),
    "Finished: 4 trials done, 2 trials scored");
  assert.equal(view.statusLine({ ...shown, status: { ...status, state: "cancelled", reason: "cancelled" } }),
    "Cancelled, 2 trials scored");
});

test("what can still be cancelled is running, in the queue too", () => {
  const running = (state) => view.isRunning({ ...shown, status: { ...status, state } });
  assert.deepEqual(["queued", "running", "finished", "cancelled", "failed"].map(running), [true, true, false, false, false]);
});

test("progress goes by examples where it is known how many are planned", () => {
  assert.equal(view.progress({ ...shown, status: { ...status, planned_scores: 80 } }), 20 / 80);
});

test("a score of few examples is no part of the best so far", () => {
  assert.deepEqual(view.bestSoFar(view.points({ ...shown, points: [row(0, 0.5), row(1, 1, 0, 2), row(2, 0.6)] })), [[0, 0.5], [2, 0.6]]);
});

test("progress counts the running trial's examples and ends at one", () => {
  assert.equal(view.progress(shown), (2 + 0.3) / 4);
  assert.equal(view.progress({ ...shown, status: { ...status, state: "finished" } }), 1);
});

test("the numbers name their units and say when money is simulated", () => {
  assert.deepEqual(view.facts(shown), [
    ["best", "0.800", "± 0.050"], ["default", "0.500", ""], ["cost", "$0.0123", "simulated"], ["elapsed", "1:15", ""],
  ]);
  assert.equal(view.duration(3723), "1:02:03");
  assert.equal(view.dollars(12), "$12.00");
});

test("who does not see the plot is told what is on it", () => {
  assert.equal(view.figureSummary(shown),
    "Scores of 2 trials. Best is trial 1 with 0.800 ± 0.050. The default has 0.500.");
});

test("plotly gets every trial once, labels as text, and the default as a dashed line", () => {
  const [line, trials, finals] = view.traces({ ...shown, points: [...shown.points, row(2, 0.7, 1, 40)] }, colours);
  assert.equal(line.line.shape, "hv");
  assert.deepEqual([...trials.x, ...finals.x], [0, 1, 2]);
  assert.notEqual(trials.marker.symbol, finals.marker.symbol);
  assert.match(trials.text[0], /&lt;a&amp;b>/);
  assert.equal(view.layout(shown, colours).shapes[0].line.dash, "dash");
  assert.equal(view.layout({ ...shown, status: { ...status, default: null } }, colours).shapes.length, 0);
});

test("the picture shows as many points as the plot", () => {
  const parts = view.drawing({ ...shown, points: [...shown.points, row(2, 0.7, 1)] }, colours, 600, 280);
  assert.equal(parts.filter((part) => part.title).length, 3);
  assert.ok(parts.some((part) => part.attributes["stroke-dasharray"]));
  assert.ok(parts.some((part) => part.text === "trial") && parts.some((part) => part.text === "score"));
  assert.ok(!JSON.stringify(parts).includes("null"), "no NaN coordinates");
  assert.deepEqual(view.drawing({ ...shown, points: [] }, colours, 600, 280), []);
});

test("equal scores still have an axis", () => {
  const flat = { ...shown, points: [row(0, 0.5)], status: { ...status, best: 0 } };
  assert.ok(!JSON.stringify(view.drawing(flat, colours, 600, 280)).includes("null"));
});

test("a throttled call comes at most once a period, and the last one is not lost", () => {
  let now = 0;
  const calls = [];
  const later = [];
  const say = view.throttled(() => calls.push(now), 1000, () => now, (act, ms) => later.push([act, ms]));
  say();
  now = 300;
  say();
  say();
  assert.deepEqual([calls, later.map(([, ms]) => ms)], [[0], [700]]);
  now = 1000;
  later[0][0]();
  assert.deepEqual(calls, [0, 1000]);
});

test("what arrives gzipped is unpacked", async () => {
  assert.equal(await view.gunzip(gzipSync("plotly")), "plotly");
});
