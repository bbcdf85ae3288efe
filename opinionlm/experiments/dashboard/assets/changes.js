// What two runs differ in: their options, and the test texts that one of them gets right and the other wrong.

const changes = { first: null, second: null, kind: "gained", shown: STEP };

function renderChanges() {
  const section = document.getElementById("changes");
  const runs = state.group.runs;
  section.hidden = runs.length < 2;
  if (section.hidden) return;
  if (!runs.includes(changes.first) || !runs.includes(changes.second)) {
    const best = bestRuns(state.group);
    changes.second = best[0];
    changes.first = best[1] ?? runs.find((run) => run !== best[0]);
  }
  const place = el("div", {});
  const draw = () => {
    changes.shown = STEP;
    place.replaceChildren(...changesBetween(changes.first, changes.second, draw));
  };
  const names = runs.map((run) => [run.name, run.name]);
  const pick = (which) => (name) => {
    changes[which] = runs.find((run) => run.name === name);
    draw();
  };
  body("changes").replaceChildren(
    el("div", { class: "fields" }, choice("From", names, changes.first.name, pick("first")), choice("To", names, changes.second.name, pick("second"))),
    place);
  draw();
}

function changesBetween(first, second, draw) {
  const text = (value) => (value === null || value === undefined ? "–" : String(value));
  const different = state.group.varying.filter((name) => JSON.stringify(first.options[name]) !== JSON.stringify(second.options[name]));
  const options = different.length
    ? simpleTable("Options that differ", ["option", first.name, second.name], different.map((name) => [name, text(first.options[name]), text(second.options[name])]), () => false)
    : note("No option differs.");
  return [el("h3", {}, plural(different.length, "option that differs", "options that differ")), options, el("h3", {}, "Test texts that flipped"), ...flipped(first, second, draw)];
}

function flipped(first, second, draw) {
  const [gold, before, after] = [state.group.gold, first.splits.test?.answers, second.splits.test?.answers];
  if (!gold || !before || !after) return [note("Not told: both runs need predicted labels of the same test texts, and not too many of them to fit in the page.")];
  const kinds = { gained: [], lost: [], other: [] };
  gold.forEach((label, at) => {
    if (before[at] === after[at]) return;
    kinds[after[at] === label ? "gained" : before[at] === label ? "lost" : "other"].push(at);
  });
  const rows = new Map(state.group.rows.test.map((row) => [row.at, row]));
  const found = kinds[changes.kind];
  const known = found.filter((at) => rows.has(at));
  const name = (label) => state.group.labels[label] ?? "no valid label";
  const item = (at) => el("li", { tabindex: "-1" },
    el("p", { class: "text", dir: "auto" }, rows.get(at).text || "(no text)"),
    el("p", { class: "verdict" },
      el("span", {}, el("span", { class: "word" }, "gold "), el("b", {}, name(gold[at]))),
      ...[["before", before], ["after", after]].map(([word, answers]) => {
        const right = answers[at] === gold[at];
        return el("span", { class: right ? "right" : "mistaken" }, el("span", { class: "word" }, `${right ? "✓" : "✗"} ${word} `), el("b", {}, name(answers[at])));
      }),
      el("span", { class: "facts" }, [rows.get(at).platform, rows.get(at).id].filter((fact) => fact).join(" · "))));
  const titles = { gained: "wrong → right", lost: "right → wrong", other: "wrong → wrong otherwise" };
  const list = el("ol", { class: "posts" }, known.slice(0, changes.shown).map(item));
  const more = el("button", { type: "button", onclick: () => {
    const shown = changes.shown;
    changes.shown += STEP;
    list.append(...known.slice(shown, changes.shown).map(item));
    if (changes.shown >= known.length) more.remove();
    list.children[shown].focus();
  } }, "Show more");
  return [
    segments("Texts", Object.entries(titles).map(([kind, title]) => [kind, `${title} (${kinds[kind].length.toLocaleString("en")})`]), changes.kind, (kind) => {
      changes.kind = kind;
      draw();
      document.querySelector("#changes .segments [aria-pressed=true]").focus();
    }),
    list, ...(known.length > changes.shown ? [more] : []),
    note(`${(kinds.gained.length + kinds.lost.length + kinds.other.length).toLocaleString("en")} of ${plural(gold.length, "text")} got another label.${known.length < found.length ? ` The page holds the texts of ${known.length} of these ${found.length}; the others are in predictions/test.csv.` : ""}`),
  ];
}

when(["group"], renderChanges);
