// Keyboard shortcuts, sliders by keyboard, and files dropped anywhere on the page. Runs once, in the page's head.
{
  const shortcuts = (event) => {
    if (event.key === "Escape") return ["fd-cancel", "fd-ab-cancel"];
    const starts = event.key === "Enter" && (event.ctrlKey || event.metaKey);
    return starts ? ["fd-design", "fd-ab-go"] : [];
  };

  document.addEventListener("keydown", (event) => {
    // The button in sight: each belongs to a tab of its own.
    const buttons = shortcuts(event).map((id) => document.getElementById(id));
    const button = buttons.find((one) => one && !one.disabled && one.offsetParent !== null);
    if (!button) return;
    event.preventDefault();
    button.click();
  });

  // Gradio's sliders tell only of a pointer that lets go. Keys that move one do as much, once they rest.
  let resting;
  document.addEventListener("keyup", (event) => {
    const moves = /^(Arrow|Page|Home|End)/.test(event.key) && event.target.type === "range";
    if (!moves) return;
    clearTimeout(resting);
    const tell = () => event.target.dispatchEvent(new PointerEvent("pointerup", { bubbles: true }));
    resting = setTimeout(tell, 400);
  });

  const carriesFiles = (event) =>
    event.dataTransfer !== null && Array.from(event.dataTransfer.types).includes("Files");
  const mark = (on) => document.body.classList.toggle("fd-dropping", on);

  document.addEventListener("dragover", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault(); // without this the browser leaves the page and opens the file
    mark(true);
  });

  document.addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) mark(false);
  });

  document.addEventListener("drop", (event) => {
    mark(false);
    if (!carriesFiles(event)) return;
    // The zone in sight: the import's on the Data tab, else the Playground's.
    const zones = ["fd-import", "fd-drop"].map((id) => document.getElementById(id));
    const zone = zones.find((one) => one && one.offsetParent !== null) || zones[1];
    if (!zone || zone.contains(event.target)) return; // the zone takes its own drops
    event.preventDefault();
    const input = zone.querySelector("input[type=file]");
    if (!input) return;
    input.files = event.dataTransfer.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
  });
}
