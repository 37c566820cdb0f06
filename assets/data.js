// The Data tab's tiles: opening a record, ticking records, and the keys while one is open.
// Gradio runs this when the tiles are mounted, with `element`, `trigger` and `watch`.
const ticked = new Set();
const boxes = () => [...element.querySelectorAll("input[data-tick]")];

const show = () => {
  for (const box of boxes()) box.checked = ticked.has(box.dataset.tick);
  const said = element.querySelector("[data-ticked]");
  if (said) said.textContent = ticked.size ? `${ticked.size} ticked` : "";
};

window.fdTicked = () => [...ticked].join(",");
window.fdUntick = () => { ticked.clear(); show(); };

element.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button || !element.contains(button)) return;
  if (button.dataset.record) {
    window.fdLast = button.dataset.record;
    trigger("click", { record: button.dataset.record });
  } else {
    const all = "tickAll" in button.dataset;
    if (all) for (const box of boxes()) ticked.add(box.dataset.tick);
    else ticked.clear();
    show();
  }
});

element.addEventListener("change", (event) => {
  const number = event.target.dataset.tick;
  if (!number) return;
  if (event.target.checked) ticked.add(number);
  else ticked.delete(number);
  show();
});

watch("value", show);

// A record that opens gets the focus, for the keyboard and for screen readers; when it closes, the
// tile that opened it gets it back.
window.fdOpened = (place) => {
  const article = place.querySelector("article");
  if (article) {
    article.focus({ preventScroll: true });
    document.getElementById("fd-data").scrollIntoView({ block: "start" });
  } else {
    const tile = element.querySelector(`button[data-record="${window.fdLast}"]`);
    if (tile) tile.focus();
  }
};

if (!window.fdDataKeys) {
  window.fdDataKeys = { Escape: "fd-back", ArrowLeft: "fd-record-before", ArrowRight: "fd-record-after" };
  document.addEventListener("keydown", (event) => {
    const button = document.getElementById(window.fdDataKeys[event.key]);
    const scrolls = event.target.closest("input, textarea, [role=listbox], .fd-scroll");
    if (!button || button.offsetParent === null || (scrolls && event.key !== "Escape")) return;
    event.preventDefault();
    button.click();
  });
}
