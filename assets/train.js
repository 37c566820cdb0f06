// The Train tab. Gradio runs this when a list or the curves are mounted, with `element`, `trigger` and
// `watch`: presses reach the server, the focus survives a new drawing, and whoever points at a curve
// reads its values.

// A press on the list makes the page want something as a whole: the run to open, then those to compare.
// It is read when it is sent, so one that is made while another is under way loses nothing.
let opened = null;
const wanted = () => [
  opened ?? element.querySelector("[data-run][aria-current]")?.dataset.run,
  ...[...element.querySelectorAll("[data-compare]:checked")].map((box) => box.dataset.compare),
].join(" ");
if (element.closest("#fd-runs")) window.fdWanted = wanted;
const pressed = (name, target) => {
  const found = target.closest(`[data-${name}]`);
  return found && element.contains(found) ? found.dataset[name] : null;
};

element.addEventListener("click", (event) => {
  const run = pressed("run", event.target);
  const back = pressed("back", event.target);
  if (run) {
    window.fdOpenRun = opened = run;
    trigger("click");
  } else if (back) trigger("click", { back });
});
element.addEventListener("change", (event) => { if (pressed("compare", event.target)) trigger("click"); });

// A list that is drawn anew while a run is at work takes the focus away, so it is given back.
const key = (one) => ["run", "compare", "back"].filter((name) => name in one.dataset)
  .map((name) => `[data-${name}="${CSS.escape(one.dataset[name])}"]`)[0];
let focused = null;
element.addEventListener("focusin", (event) => {
  const plots = [...element.querySelectorAll(".fd-plot")];
  const plot = plots.indexOf(event.target);
  focused = plot < 0 ? key(event.target) : plot;
});
element.addEventListener("focusout", (event) => {
  if (event.target.isConnected && event.relatedTarget) focused = null;
});
const refocus = () => {
  if (focused === null || document.activeElement !== document.body) return;
  const found = typeof focused === "number"
    ? element.querySelectorAll(".fd-plot")[focused] : focused && element.querySelector(focused);
  if (found) found.focus({ preventScroll: true });
};

// --- reading values from the curves
const [WIDTH, HEIGHT] = [600, 160]; // as in train_curves.py
const points = (line) => line.dataset.one
  ? [[Number(line.dataset.one), Number(line.getAttribute("points").split(/[ ,]/)[1])]]
  : line.getAttribute("points").split(" ").map((pair) => pair.split(",").map(Number));

const value = (plot, y) => {
  const [low, high] = [Number(plot.dataset.low), Number(plot.dataset.high)];
  const share = 1 - y / HEIGHT;
  return plot.dataset.log ? low * (high / low) ** share : low + (high - low) * share;
};
const step = (plot, x) => {
  const [first, last] = [Number(plot.dataset.first), Number(plot.dataset.last)];
  return Math.round(first + (last - first) * (x / WIDTH));
};
const say = (number) => (Math.abs(number) >= 1000 && Math.abs(number) < 1e7
  ? Math.round(number).toLocaleString("en")
  : String(Number(number.toPrecision(3)))).replace("-", "−");

const showAt = (plot, x) => {
  const figure = plot.closest("figure");
  const values = figure.querySelectorAll("[data-last-value]");
  let at = x;
  plot.querySelectorAll("polyline").forEach((line, index) => {
    const near = points(line).reduce((a, b) => Math.abs(b[0] - x) < Math.abs(a[0] - x) ? b : a);
    if (index === 0) at = near[0];
    values[index].textContent = say(value(plot, near[1]));
  });
  const mark = plot.querySelector(".fd-at");
  mark.hidden = false;
  mark.style.left = `${100 * at / WIDTH}%`;
  figure.querySelector("output").textContent = `step ${(step(plot, at) + 1).toLocaleString("en")}`;
  plot.dataset.at = at;
};
const hideAt = (plot) => {
  const figure = plot.closest("figure");
  for (const one of figure.querySelectorAll("[data-last-value]")) one.textContent = one.dataset.lastValue;
  plot.querySelector(".fd-at").hidden = true;
  figure.querySelector("output").textContent = "";
  delete plot.dataset.at;
};

element.addEventListener("pointermove", (event) => {
  const plot = event.target.closest(".fd-plot");
  if (!plot) return;
  const box = plot.getBoundingClientRect();
  showAt(plot, Math.min(WIDTH, Math.max(0, WIDTH * (event.clientX - box.left) / box.width)));
});
element.addEventListener("pointerout", (event) => {
  const plot = event.target.closest(".fd-plot");
  if (plot && !plot.contains(event.relatedTarget)) hideAt(plot);
});
element.addEventListener("keydown", (event) => {
  const plot = event.target.closest(".fd-plot");
  const way = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!plot || !way) return;
  event.preventDefault();
  const xs = points(plot.querySelector("polyline")).map((point) => point[0]);
  const at = "at" in plot.dataset ? Number(plot.dataset.at) : xs[xs.length - 1] + 1e-6;
  const next = way < 0 ? xs.filter((x) => x < at - 1e-9).pop() : xs.find((x) => x > at + 1e-9);
  if (next !== undefined) showAt(plot, next);
});

watch("value", () => { opened = null; refocus(); });
