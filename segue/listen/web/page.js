"use strict";
// The rater's page. It knows no right answer. State: {session, ears, day, answers: [{trial, answer, plays, sent}]},
// kept in localStorage under the test's id until the rater removes it. A view is drawn whole from the state.
(() => {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const test = read("test"), texts = read("texts");
  const view = document.getElementById("view"), told = document.getElementById("told");
  const topbar = document.getElementById("top"), bar = document.getElementById("bar");
  const served = location.protocol === "http:" || location.protocol === "https:";
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const place = "segue-listen-" + test.test;
  let state = null, keys = () => false, trials = [], sending = false, kept = true;

  const say = (name, values = {}) => texts[name].replace(/\{(\w+)\}/g, (_, key) => values[key]);
  const today = () => new Date().toISOString().slice(0, 10);

  // State

  function newSession() {
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    const session = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
    return { session, ears: null, day: today(), answers: [] };
  }

  function keep() {
    try { localStorage.setItem(place, JSON.stringify(state)); } catch { kept = false; }
  }

  function restore() {
    try {
      const found = JSON.parse(localStorage.getItem(place));
      return found && /^[0-9a-f]{32}$/.test(found.session) && Array.isArray(found.answers) ? found : null;
    } catch { return null; }
  }

  function remove() {
    state = null;
    try { localStorage.removeItem(place); } catch { kept = false; }
  }

  // Order: drawn from the session's own id, so that it is the same after a break.

  function draws(session) {
    let [a, b, c, d] = [0, 8, 16, 24].map((at) => parseInt(session.slice(at, at + 8), 16) | 0);
    const next = () => { // sfc32
      const sum = (((a + b) | 0) + d) | 0;
      d = (d + 1) | 0;
      a = b ^ (b >>> 9);
      b = (c + (c << 3)) | 0;
      c = (((c << 21) | (c >>> 11)) + sum) | 0;
      return (sum >>> 0) / 4294967296;
    };
    for (let i = 0; i < 16; i++) next();
    return (below) => Math.floor(next() * below);
  }

  function order(session) {
    const draw = draws(session), form = test.forms[parseInt(session.slice(-1), 16) % test.forms.length];
    const first = form.filter((trial) => !trial.after), later = form.filter((trial) => trial.after);
    for (let i = first.length - 1; i > 0; i--) {
      const j = draw(i + 1);
      [first[i], first[j]] = [first[j], first[i]];
    }
    for (const trial of later) { // in the last quarter, and what it follows in the first half
      const at = first.findIndex((one) => one.id === trial.after), half = Math.max(1, first.length >> 1);
      if (at >= half) {
        const j = draw(half);
        [first[at], first[j]] = [first[j], first[at]];
      }
      first.splice(first.length - draw((first.length >> 2) + 1), 0, trial);
    }
    return first;
  }

  // Drawing

  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else if (value === true) element.setAttribute(name, "");
      else if (value !== false && value !== null) element.setAttribute(name, value);
    }
    element.append(...children);
    return element;
  }

  const button = (text, onclick, attributes = {}) => make("button", { type: "button", onclick, ...attributes }, text);

  function show(focus, ...children) {
    for (const sound of document.querySelectorAll("audio")) sound.pause();
    view.replaceChildren(...children);
    told.textContent = "";
    keys = () => false;
    scrollTo(0, 0);
    if (focus) focus.focus({ preventScroll: true });
  }

  const heading = (text) => make("h1", { tabindex: "-1" }, text);

  // A sound that must be heard to its end. No skipping ahead, whatever keys a device has for it.

  function player(source, name, cut, onheard, onstart = () => {}) {
    const audio = make("audio", { src: source, preload: "auto" });
    const label = make("span", { class: "label" }, say("play"));
    const fill = make("div", { class: "fill" }), mark = make("div", { class: "cut" });
    const line = make("div", { class: "line", "aria-hidden": "true" }, fill);
    const scale = make("div", { class: "scale", "aria-hidden": "true" });
    if (cut) {
      fill.style.setProperty("--cut", `${cut * 100}%`);
      mark.style.left = `${cut * 100}%`;
      line.append(mark);
      const begin = make("span", {}, say("beginning")), end = make("span", {}, say("following_" + test.kind));
      begin.style.width = `${cut * 100}%`;
      scale.append(begin, end);
    }
    const one = { heard: false, plays: 0, audio, toggle };
    let furthest = 0;
    const icon = make("span", { class: "icon", "aria-hidden": "true" });
    const control = button("", toggle, { class: "play", "aria-label": `${name}: ${say("play")}` });
    control.append(icon, label);
    one.control = control;

    function caption(text, playing) {
      label.textContent = say(text);
      control.setAttribute("aria-label", `${name}: ${say(text)}`);
      control.classList.toggle("playing", playing);
    }
    function toggle() {
      if (!audio.paused) return audio.pause();
      told.textContent = "";
      if (audio.error) audio.load();
      onstart(one);
      audio.play().catch(() => { told.textContent = say("broken"); });
    }
    function fillTo(share) { fill.style.clipPath = `inset(0 ${100 - share * 100}% 0 0)`; }
    function draw() {
      fillTo(audio.duration ? audio.currentTime / audio.duration : 0);
      furthest = Math.max(furthest, audio.seeking ? 0 : audio.currentTime);
      if (!audio.paused) still ? setTimeout(draw, 500) : requestAnimationFrame(draw);
    }
    audio.addEventListener("playing", () => {
      if (audio.currentTime < 0.05) one.plays += 1;
      caption("pause", true);
      draw();
    });
    audio.addEventListener("pause", () => caption(audio.ended || !audio.currentTime ? "again" : "play", false));
    audio.addEventListener("seeking", () => {
      if (!one.heard && audio.currentTime > furthest + 1) audio.currentTime = furthest;
    });
    audio.addEventListener("ended", () => {
      one.heard = true;
      one.plays = Math.max(one.plays, 1);
      fillTo(1);
      caption("again", false);
      onheard(one);
    });
    audio.addEventListener("error", () => { told.textContent = say("broken"); });
    one.element = make("div", { class: "player" }, control, make("div", { class: "track" }, line, scale), audio);
    return one;
  }

  // Views

  function welcome() {
    topbar.hidden = true;
    const before = restore(), count = test.forms[0].length, title = heading(say("welcome_" + test.kind));
    const each = (test.prompt_seconds + test.seconds) * test.forms[0][0].sounds.length;
    const minutes = Math.max(1, Math.ceil((count * (each + 4) + 60) / 60));
    const paragraphs = [
      say("what_" + test.kind, { count, prompt: test.prompt_seconds }),
      say(test.kind === "real" ? "sound_quality" : "quality_preference"),
      say("checks_" + test.kind),
      say("time", { minutes }),
    ].map((text) => make("p", {}, text));
    const about = make("section", { class: "kept" }, make("h2", {}, say("kept_title")),
      make("p", {}, `${say("kept")} ${say(served ? "kept_served" : "kept_file")} ${say("withdraw")}`));
    const begin = button(say(before ? "resume" : "agree"), () => {
      state = before || newSession();
      trials = order(state.session);
      keep();
      next();
      if (!kept) told.textContent = say("not_kept");
    }, { class: "main", id: "begin" });
    const extra = before ? [
      make("p", { class: "hint" }, say("resume_note", { done: before.answers.length, count })),
      button(say("discard"), () => { remove(); welcome(); told.textContent = say("removed"); },
        { class: "quiet", id: "discard" }),
    ] : [];
    show(null, title, ...paragraphs, about, make("div", { class: "row" }, begin, ...extra));
  }

  function next() {
    if (state.ears === null) return ears();
    const answered = new Set(state.answers.map((one) => one.trial));
    const left = trials.filter((trial) => !answered.has(trial.id));
    topbar.hidden = false;
    bar.max = trials.length;
    bar.value = trials.length - left.length;
    const number = Math.min(trials.length, trials.length - left.length + 1);
    bar.setAttribute("aria-label", say("progress", { number, count: trials.length }));
    return left.length ? ask(left[0], left[1], number) : done();
  }

  function ears() {
    topbar.hidden = true;
    const buttons = [["left-right", "ears_left"], ["right-left", "ears_right"], ["neither", "ears_neither"]].map(
      ([value, text]) => button(say(text), () => { state.ears = value; keep(); next(); },
        { class: "choice", disabled: true, "data-ears": value }));
    const sound = player(test.ears, say("sound"), 0, () => buttons.forEach((one) => { one.disabled = false; }));
    const title = heading(say("ears_title"));
    show(title, title, make("p", {}, say("ears_what")), sound.element,
      make("h2", {}, say("ears_question")), make("div", { class: "choices three" }, ...buttons));
    keys = (key) => (key === " " ? (sound.toggle(), true) : false);
  }

  function ask(trial, following, number) {
    const two = trial.sounds.length > 1, cut = test.prompt_seconds / (test.prompt_seconds + test.seconds);
    const hint = make("p", { class: "hint", id: "hint" }, say(two ? "listen_both" : "listen"));
    const choices = [1, 2].map((answer) => button("", () => choose(answer), {
      class: "choice", disabled: true, "data-answer": answer, "aria-keyshortcuts": answer, "aria-describedby": "hint",
    }));
    choices.forEach((one, index) => one.append(make("kbd", { "aria-hidden": "true" }, String(index + 1)),
      make("span", {}, say(`answer_${test.kind}_${index + 1}`))));
    let given = false;
    const heard = (one) => {
      if (!players.every((each) => each.heard)) {
        const other = players.find((each) => !each.heard);
        if (document.activeElement === one.control) other.control.focus();
        return;
      }
      hint.textContent = say("now_answer");
      choices.forEach((each) => { each.disabled = false; });
    };
    const alone = (started) => players.forEach((one) => { if (one !== started) one.audio.pause(); });
    const players = trial.sounds.map((source, index) =>
      player(source, say(two ? `sound_${index + 1}` : "sound"), cut, heard, alone));
    function choose(answer) {
      if (given || !players.every((one) => one.heard)) return;
      given = true;
      const plays = players.reduce((sum, one) => sum + one.plays, 0);
      state.answers.push({ trial: trial.id, answer, plays, sent: false });
      keep();
      next();
      send();
    }
    const boxes = two
      ? players.map((one, index) => make("div", { class: "numbered" }, make("h2", {}, say(`sound_${index + 1}`)), one.element))
      : players.map((one) => one.element);
    const title = heading(say("question_" + test.kind));
    const count = make("p", { class: "count", id: "count" }, say("progress", { number, count: trials.length }));
    show(players[0].control, count, title, ...boxes, hint,
      make("div", { class: "choices", role: "group", "aria-label": say("question_" + test.kind) }, ...choices),
      make("p", { class: "keys" }, say("keys_" + test.kind)));
    players.forEach((one) => one.control.setAttribute("aria-describedby", "count"));
    if (following) following.sounds.forEach((source) => { new Audio(source).preload = "auto"; });
    keys = (key) => {
      const pressed = key.toLowerCase(), playing = players.find((one) => !one.audio.paused);
      if (key === " ") (playing || players.find((one) => !one.heard) || players[0]).toggle();
      else if (two && (pressed === "a" || pressed === "b")) players[pressed === "a" ? 0 : 1].toggle();
      else if (key === "1" || key === "ArrowLeft") choose(1);
      else if (key === "2" || key === "ArrowRight") choose(2);
      else return false;
      return true;
    };
  }

  function done() {
    const title = heading(say("done_title")), message = make("p", { id: "message" });
    const again = button(say("try_again"), () => send(), { class: "main", id: "again" });
    const save = button(say("download"), () => { download(); message.textContent = say("downloaded"); },
      { class: "main", id: "download" });
    const forget = button(say("discard"), () => { remove(); welcome(); told.textContent = say("removed"); },
      { class: "quiet", id: "discard" });
    show(title, title, message, make("div", { class: "row" }, again, save, forget));
    refresh();
    function refresh() {
      const unsent = state.answers.filter((one) => !one.sent).length;
      message.textContent = served ? say(unsent ? "done_unsent" : "done_sent", { count: unsent }) : say("done_file");
      message.dataset.sent = served && !unsent ? "yes" : "no";
      again.hidden = !served || !unsent;
      save.hidden = served && !unsent;
    }
    done.refresh = refresh;
    if (served) send();
  }

  // Handing over

  async function send() { // whatever is not sent yet, in order; what fails stays for the next time
    if (!served || sending || !state) return;
    sending = true;
    const mine = state;
    try {
      for (let one; mine === state && (one = mine.answers.find((each) => !each.sent)); ) {
        const { trial, answer, plays } = one;
        const body = JSON.stringify({ test: test.test, session: mine.session, ears: mine.ears, trial, answer, plays });
        const reply = await fetch("answers", {
          method: "POST", body, headers: { "Content-Type": "application/json" }, credentials: "omit", cache: "no-store",
        });
        if (!reply.ok) throw new Error(String(reply.status));
        one.sent = true;
        if (mine === state) keep();
      }
    } catch {
      const count = mine.answers.filter((each) => !each.sent).length;
      if (mine === state && count > 1) told.textContent = say("unsent", { count });
    } finally {
      sending = false;
      if (document.getElementById("message") && state) done.refresh();
    }
  }

  function download() {
    const answers = state.answers.map(({ trial, answer, plays }) => ({ trial, answer, plays }));
    const whole = { format: "segue listen answers", version: 1, test: test.test, session: state.session,
      ears: state.ears, day: state.day, answers };
    const address = URL.createObjectURL(new Blob([JSON.stringify(whole, null, 1) + "\n"], { type: "application/json" }));
    make("a", { href: address, download: `answers-${state.session.slice(0, 8)}.json` }).click();
    setTimeout(() => URL.revokeObjectURL(address), 60000);
  }

  let swallowed = null;
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.repeat) { if (event.key === swallowed) event.preventDefault(); return; }
    if (!keys(event.key)) return;
    event.preventDefault();
    swallowed = event.key;
  });
  addEventListener("keyup", (event) => { // some browsers click a focused button only now
    if (event.key === swallowed) { event.preventDefault(); swallowed = null; }
  });

  welcome();
})();
