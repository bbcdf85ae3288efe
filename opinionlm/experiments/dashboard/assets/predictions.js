// Texts with what a run made of them: the most confident mistakes, and a sample of all texts.

const browser = { run: null, kind: "mistakes", gold: "", predicted: "", platform: "", text: "", shown: 10 };
const STEP = 10;

function renderPredictions() {
  const section = document.getElementById("predictions");
  const having = state.group.runs.filter((run) => run.splits[state.split]);
  section.hidden = !having.length;
  if (section.hidden) return;
  if (!having.includes(browser.run)) browser.run = ranked(having, `${state.split}.${state.group.main}`)[0] ?? having[0];
  Object.assign(browser, { gold: "", predicted: "", platform: "", text: "", shown: STEP });
  const filters = el("div", { class: "fields" });
  const list = el("div", {});
  const redraw = () => list.replaceChildren(...predictionList());
  const set = (name) => (value) => {
    browser[name] = value;
    browser.shown = STEP;
    redraw();
  };
  // Gold, predicted and platform offer what the chosen run has.
  const offer = () => {
    const all = entries();
    const values = (name) => [["", "all"], ...[...new Set(all.map((entry) => entry[name]))].filter((value) => value).sort().slice(0, 100).map((value) => [value, value.slice(0, 60)])];
    const few = (name) => values(name).length > 2 && values(name).length <= 70;
    const kinds = browser.run.splits[state.split].kind === "labels" ? ["gold", "predicted", "platform"] : ["platform"];
    filters.replaceChildren(...kinds.filter(few).map((name) => choice(name, values(name), "", set(name))),
      textField("Search", "words in the text", set("text")));
    Object.assign(browser, { gold: "", predicted: "", platform: "", text: "", shown: STEP });
    redraw();
  };
  body("predictions").replaceChildren(
    el("div", { class: "fields" },
      choice("Run", having.map((run) => [run.name, run.name]), browser.run.name, (name) => {
        browser.run = having.find((run) => run.name === name);
        offer();
      }),
      segments("Texts", [["mistakes", browser.run.splits[state.split].kind === "scores" ? "furthest off" : "worst mistakes"], ["sample", "sample"]], browser.kind, (kind) => {
        browser.kind = kind;
        offer();
      })),
    filters, list,
    note(`To keep the page small it holds, for every run and split, at most ${page.limits.mistakes} of the most confident mistakes and ${page.limits.sample} texts spread evenly over the split, each cut after ${page.limits.characters} characters. All predictions are in predictions/*.csv of the run's folder.`),
  );
  offer();
}

function entries() {
  const rows = state.group.rows[state.split];
  return browser.run.splits[state.split][browser.kind].map(([place, predicted, confidence]) => ({ ...rows[place], predicted, confidence }));
}

function predictionList() {
  const words = browser.text.toLowerCase().split(/\s+/).filter((word) => word);
  const found = entries().filter((entry) =>
    ["gold", "predicted", "platform"].every((name) => !browser[name] || entry[name] === browser[name]) &&
    words.every((word) => entry.text.toLowerCase().includes(word)));
  const split = browser.run.splits[state.split];
  const shown = found.slice(0, browser.shown);
  const items = el("ol", { class: "posts" }, shown.map(post));
  const status = el("p", { class: "note", role: "status" },
    `${browser.run.name} is wrong on ${split.wrong.toLocaleString("en")} of ${plural(split.rows, "text")}. ${shown.length} of ${found.length} shown.`);
  const more = el("button", { type: "button", onclick: () => {
    browser.shown += STEP;
    const list = items.parentNode;
    list.replaceChildren(...predictionList());
    list.querySelectorAll(".posts > li")[shown.length]?.focus();
  } }, "Show more");
  return [status, items, ...(found.length > shown.length ? [more] : [])];
}

function post(entry) {
  const right = entry.gold === entry.predicted;
  const [wrong, runs] = entry.wrongRuns;
  const facts = [entry.platform, entry.id, runs > 1 ? `wrong in ${wrong} of ${runs} runs` : ""].filter((fact) => fact);
  const sure = entry.confidence === null ? null : el("span", { class: "sure" }, `${percent(entry.confidence)} sure`);
  return el("li", { tabindex: "-1" },
    el("p", { class: "text", dir: "auto" }, entry.text || "(no text)"),
    el("p", { class: "verdict" },
      el("span", {}, el("span", { class: "word" }, "gold "), el("b", {}, entry.gold)),
      el("span", { class: right ? "right" : "mistaken" }, el("span", { class: "word" }, right ? "✓ predicted " : "✗ predicted "), el("b", {}, entry.predicted)),
      sure, el("span", { class: "facts" }, facts.join(" · "))));
}

when(["group", "measure"], renderPredictions);
