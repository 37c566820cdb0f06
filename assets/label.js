// The Label tab: shows questions, takes answers by key, mouse or touch. Gradio runs this when the tab
// is put on the page, with `element` as its root. What a page holds (tokens of questions, answers that
// can be taken back) is in sessionStorage, so that a reload or the back button goes on where it was.
{
  const $ = (selector) => element.querySelector(selector);
  const $$ = (selector) => [...element.querySelectorAll(selector)];
  const root = $(".fd-label");
  const MOST_UNDO = 50;
  const PATIENCE = [1000, 2000, 4000, 8000, 15000]; // milliseconds between attempts to reach the app
  const CAPTIONS = {
    pair: "Which image fits the prompt better?",
    rating: "From 1, does not fit the prompt, to 5, fits and looks right",
  };

  let questions = []; // the one on show, then the next
  const loaded = new Map(); // token -> its images, loading or loaded
  let shown = null; // token of the question that can be answered
  let since = 0; // when it could first be seen
  let busy = false;

  // --- what the page remembers

  const recall = (store, key, otherwise) => {
    try {
      return JSON.parse(store().getItem(key)) ?? otherwise;
    } catch {
      return otherwise; // storage may be forbidden, as in some frames
    }
  };
  const keep = (store, key, value) => {
    try {
      store().setItem(key, JSON.stringify(value));
    } catch {
      // then it lasts as long as the page
    }
  };
  const tab = () => window.sessionStorage;
  const browser = () => window.localStorage;

  // `held` are tokens of open questions by kind, `done` answers that can be taken back.
  const nothing = { kind: "pair", held: { pair: [], rating: [] }, done: [], visit: 0 };
  const memory = { ...nothing, ...recall(tab, "fd-label", {}) };
  const remember = () => keep(tab, "fd-label", memory);

  const bytes = crypto.getRandomValues(new Uint8Array(16));
  const fresh = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  const secret = recall(browser, "fd-rater", fresh);
  keep(browser, "fd-rater", secret);

  // --- talking to the app

  class Refused extends Error {}
  const pause = (time) => new Promise((resolve) => setTimeout(resolve, time));

  const ask = async (name, data) => {
    const page = document.querySelector("#fd-label-page textarea, #fd-label-page input");
    const response = await fetch(`gradio_api/run/${name}`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ data, session_hash: page?.value || null }),
    });
    if (response.status >= 502) throw new Error("away"); // a proxy in front of an app that restarts
    const body = await response.json();
    if (!response.ok) throw new Refused(body.error || "The app could not do this. Try again.");
    return body.data[0];
  };

  // An answer is known by its token, so sending it again can neither lose nor double it.
  const insist = async (name, data) => {
    for (let attempt = 0; ; attempt += 1) {
      try {
        return { ...(await ask(name, data)), retried: attempt > 0 };
      } catch (fault) {
        if (fault instanceof Refused || !root.isConnected) throw fault;
        const what = name === "label_deal" ? "" : ": not stored yet";
        say(`No connection${what}. Trying again…`, "busy");
        await pause(PATIENCE[Math.min(attempt, PATIENCE.length - 1)]);
      }
    }
  };

  // --- showing

  const say = (text, kind = "") => {
    const status = $("[data-status]");
    status.textContent = text;
    status.parentElement.className = `fd-status${kind ? ` fd-is-${kind}` : ""}`;
  };

  const load = (question) => {
    if (loaded.has(question.token)) return;
    const images = question.images.map((address) => {
      const image = new Image();
      image.src = address;
      return image;
    });
    const ready = Promise.all(images.map((image) => image.decode()));
    ready.catch(() => {}); // told when the question is shown
    loaded.set(question.token, { images, ready });
  };

  const share = (agreement) =>
    agreement.pairs ? `${Math.round(agreement.equal * 100)} %` : "–";
  const alpha = (agreement) =>
    agreement.alpha === null ? "α not yet known" : `α ${agreement.alpha.toFixed(2)}`;
  const count = (number, noun) => `${number} ${noun}${number === 1 ? "" : "s"}`;

  const showStanding = (standing) => {
    if (!standing) return;
    const rating = memory.kind === "rating";
    const figures = {
      visit: [memory.visit],
      mine: [rating ? standing.ratings : standing.votes, rating ? "ratings" : "votes"],
      all: [
        rating ? standing.all_ratings : standing.all_votes,
        `by ${standing.raters === 1 ? "1 person" : `${standing.raters} people`}`,
      ],
      own: [
        share(standing.own),
        standing.own.pairs
          ? `of ${count(standing.own.pairs, "repeat")}, ${alpha(standing.own)}`
          : "no repeats yet",
      ],
      between: [
        share(standing.between),
        standing.between.pairs
          ? `on ${count(standing.between.pairs, "pair")}, ${alpha(standing.between)}`
          : "no shared pairs yet",
      ],
    };
    for (const [name, [value, note]] of Object.entries(figures)) {
      const place = $(`[data-figure=${name}]`);
      place.textContent = value;
      if (!note) continue;
      const small = document.createElement("small");
      small.textContent = note;
      place.append(small);
    }
  };

  const showKind = () => {
    for (const button of $$("[data-kind]"))
      button.setAttribute("aria-pressed", String(button.dataset.kind === memory.kind));
    for (const row of $$("[data-for]")) row.hidden = row.dataset.for !== memory.kind;
    $("[data-pair]").classList.toggle("fd-alone", memory.kind === "rating");
    $("[data-caption]").textContent = CAPTIONS[memory.kind];
    for (const side of $$(".fd-side"))
      side.toggleAttribute("inert", memory.kind === "rating");
  };

  const showQuestion = async () => {
    const question = questions[0];
    shown = null;
    root.dataset.state = question ? "asking" : "empty";
    if (!question) return;
    questions.forEach(load);
    const { images, ready } = loaded.get(question.token);
    let whole = true;
    await ready.catch(() => (whole = false));
    if (questions[0] !== question) return;
    $("[data-prompt]").textContent = question.prompt;
    const places = $$("[data-image]");
    places.forEach((place, side) => {
      place.closest(".fd-side").hidden = side >= images.length;
      if (side < images.length) place.src = images[side].src;
      place.alt = images.length === 1 ? "The image" : ["Left image", "Right image"][side];
    });
    for (const button of $$(".fd-picked")) button.classList.remove("fd-picked");
    root.dataset.token = question.token;
    shown = question.token;
    since = performance.now();
    if (!whole) say("An image could not be loaded. Skip this one.", "bad");
    root.dataset.broken = whole ? "" : "yes";
  };

  const show = async (reply) => {
    questions = reply.questions;
    const tokens = new Set(questions.map((question) => question.token));
    for (const token of loaded.keys()) if (!tokens.has(token)) loaded.delete(token);
    $("[data-notice]").innerHTML = reply.notice ?? "";
    showKind();
    showStanding(reply.standing);
    $("[data-undo]").disabled = !memory.done.length;
    memory.held[memory.kind] = questions.map((question) => question.token);
    remember();
    await showQuestion();
  };

  // --- what the rater does

  const deal = async () => {
    const reply = await insist("label_deal", [memory.kind, secret, memory.held[memory.kind]]);
    if (reply.retried) say("");
    await show(reply);
  };

  // One act at a time; whatever goes wrong, the page goes on with a question that can be answered.
  const act = async (work) => {
    if (busy) return;
    busy = true;
    try {
      await work();
    } catch (fault) {
      say(fault.message, "bad");
      if (fault instanceof Refused) await deal().catch(() => {});
    } finally {
      busy = false;
      for (const button of $$(".fd-picked")) button.classList.remove("fd-picked");
    }
  };

  const answer = (choice) =>
    act(async () => {
      const token = shown;
      if (!token || (root.dataset.broken && choice !== "skip")) return;
      if (!$$("[data-answer]").some((b) => b.dataset.answer === choice && !b.closest("[hidden],[inert]")))
        return;
      shown = null;
      for (const button of $$(`[data-answer="${choice}"]`)) button.classList.add("fd-picked");
      const time = Math.round(performance.now() - since);
      const held = questions.slice(1).map((question) => question.token);
      const reply = await insist("label_answer", [token, choice, time, secret, held]);
      // The reply to an earlier attempt may have been lost: then this answer is stored, not another.
      const other = reply.again && !(reply.retried && reply.answer === choice);
      const counts = !other && choice !== "skip" ? 1 : 0;
      memory.visit += counts;
      memory.done = [...memory.done, { token, counts }].slice(-MOST_UNDO);
      say(other ? `This question had your answer already: ${reply.answer}.` : "");
      $("[data-reveal]").innerHTML = reply.reveal;
      await show(reply);
    });

  const undo = () =>
    act(async () => {
      const last = memory.done.pop();
      if (!last) return;
      remember();
      const held = questions.map((question) => question.token);
      const reply = await insist("label_undo", [last.token, secret, held]);
      memory.kind = reply.kind;
      memory.visit -= last.counts;
      $("[data-reveal]").innerHTML = "";
      say("Taken back. Here it is again.");
      await show(reply);
    });

  const choose = (kind) =>
    act(async () => {
      if (kind === memory.kind) return;
      memory.kind = kind;
      say("");
      await deal();
    });

  const guide = () => {
    const text = $("#fd-guidelines");
    text.hidden = !text.hidden;
    $("[data-guide]").setAttribute("aria-expanded", String(!text.hidden));
  };

  element.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button || button.disabled) return;
    if (button.dataset.answer) answer(button.dataset.answer);
    else if ("undo" in button.dataset) undo();
    else if ("guide" in button.dataset) guide();
    else if (button.dataset.kind) choose(button.dataset.kind);
  });

  // `toggle` does not bubble, so it is caught on its way down.
  element.addEventListener(
    "toggle",
    async ({ target }) => {
      const address = target.dataset?.drawing;
      if (!address || !target.open) return;
      delete target.dataset.drawing;
      const response = await fetch(address).catch(() => null);
      const drawing = document.createElement("div");
      drawing.innerHTML = response?.ok ? await response.text() : "The workflow could not be loaded.";
      target.append(drawing);
    },
    true,
  );

  const KEYS = {
    pair: { 1: "left", ArrowLeft: "left", 2: "right", ArrowRight: "right", 0: "tie", s: "skip" },
    rating: { 1: "1", 2: "2", 3: "3", 4: "4", 5: "5", s: "skip" },
  };
  const elsewhere = (event) =>
    event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.defaultPrevented ||
    event.target.closest("input, textarea, select, [contenteditable=true]") ||
    (event.key.startsWith("Arrow") && event.target.closest(".fd-scroll")); // arrows scroll a drawing

  const onKey = (event) => {
    if (!root.isConnected) return document.removeEventListener("keydown", onKey);
    if (root.offsetParent === null || elsewhere(event)) return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const choice = KEYS[memory.kind][key];
    if (!choice && key !== "u" && key !== "g") return;
    event.preventDefault();
    if (choice) answer(choice);
    else if (key === "u") undo();
    else guide();
  };
  document.addEventListener("keydown", onKey);

  // Time in another window does not count as time spent looking.
  let hidden = 0;
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) hidden = performance.now();
    else since += performance.now() - hidden;
  });

  // Whenever the tab is opened with nothing to ask, and now and then, look for new images.
  new IntersectionObserver(([entry]) => {
    if (entry.isIntersecting && !questions.length) act(deal);
  }).observe(root);
  const looking = setInterval(() => {
    if (!root.isConnected) clearInterval(looking);
    if (root.offsetParent !== null && !document.hidden && !questions.length) act(deal);
  }, 5000);
}
