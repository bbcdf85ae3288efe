// The toolbar that says what is compared, and the cards on top.

function card(title, value, detail) {
  return el("div", { class: "card" }, el("h3", {}, title), el("p", { class: "big" }, value), el("p", { class: "detail" }, detail));
}

function groupTitle(group) {
  const size = group.testRows === null ? "" : `, ${plural(group.testRows, "test text")}`;
  return `${group.dataset} · ${group.task.replaceAll("_", " ")} (${runCount(group.runs)}${size})`;
}

const chips = el("ul", { class: "chips", "aria-label": "Compared runs" });

function renderToolbar() {
  const group = state.group;
  const metric = choice("Metric", metricsOf(group, state.split).map((name) => [name, metricTitle(name)]), state.metric, chooseMetric, { id: "metric" });
  document.getElementById("toolbar").replaceChildren(
    el("div", { class: "fields" },
      choice("Data set and task", page.groups.map((one, index) => [String(index), groupTitle(one)]), String(page.groups.indexOf(group)),
        (index) => chooseGroup(page.groups[Number(index)]), { id: "group" }),
      segments("Split", splitsOf(group).map((split) => [split, split]), state.split, chooseSplit),
      metric),
    chips,
  );
}

function renderMetricChoice() {
  const select = document.getElementById("metric");
  select.replaceChildren(...metricsOf(state.group, state.split).map((name) =>
    el("option", { value: name, selected: name === state.metric }, metricTitle(name))));
}

function renderChips() {
  const chosen = selection();
  chips.replaceChildren(...chosen.map(({ run, slot }) =>
    el("li", {}, sign(slot), el("span", {}, run.name),
      el("button", { type: "button", "aria-label": `Stop comparing ${run.name}`, onclick: () => removed(run) }, "×"))));
  if (!chosen.length) chips.append(el("li", { class: "empty" }, "No run is compared yet: choose some in the table of runs."));
}

// The pressed button goes with its chip; the focus stays near it.
function removed(run) {
  const place = selection().findIndex((one) => one.run === run);
  toggleRun(run);
  const buttons = chips.querySelectorAll("button");
  (buttons[Math.min(place, buttons.length - 1)] ?? document.getElementById("runs")).focus();
}

function renderOverview() {
  const group = state.group;
  const name = `${state.split}.${state.metric}`;
  const order = rankedMethods(group).filter((method) => name in method.metrics);
  const trained = group.runs.filter((run) => run.members === null);
  const all = page.groups.flatMap((one) => one.runs);
  const together = trained.length < group.runs.length ? `and ${plural(group.runs.length - trained.length, "ensemble")} of them, ` : "";
  const cards = [card("Finished runs", String(trained.length),
    together + (page.groups.length > 1 ? `of ${runCount(all)} on ${page.groups.length} data sets or tasks` : `on ${group.dataset}`))];
  if (order.length && directionOf(name)) {
    const best = order[0];
    // Of several seeds the interval of their mean; of one run that over the texts.
    const range = best.metrics[name][2] ?? bestRunOf(best).intervals[name];
    cards.push(card(`Best ${state.split} ${metricTitle(state.metric)}`, spread(best, name),
      best.name + (range ? `, 95 % interval ${metricText(name, range[0])} to ${metricText(name, range[1])}` : "")));
    const fast = range && fastestWithin(order, name, range);
    if (fast && fast !== best) {
      cards.push(card("Fastest within that interval", spread(fast, timeOf(group)), `${fast.name}: ${spread(fast, name)}`));
    }
  }
  // An ensemble's time is its members'.
  const seconds = trained.map((run) => measure(run, timeOf(group))).filter((value) => value !== null);
  if (seconds.length) {
    cards.push(card(metricTitle(timeOf(group).slice(5)), duration(seconds.reduce((sum, value) => sum + value, 0)), `${plural(seconds.length, "run")} together`));
  }
  if (page.unusable.length) {
    cards.push(card("Without results", String(page.unusable.length), el("a", { href: "#unusable" }, "unfinished or damaged folders")));
  }
  const notes = [];
  if (page.groups.length > 1) notes.push(note("Only runs on the same texts of one data set and task are ranked against each other; the first field above changes the data set."));
  if (group.fingerprints.length > 1) {
    notes.push(note(`These runs were trained on ${group.fingerprints.length} versions of the prepared data (column “data fingerprint”) and evaluated on the same texts.`));
  }
  const common = Object.entries(group.common);
  body("overview").replaceChildren(
    el("div", { class: "cards" }, cards), ...notes,
    folded(`${plural(common.length, "option")} that ${group.runs.length > 1 ? "all these runs share" : "this run has"}`,
      el("dl", { class: "options" }, common.map(([key, value]) => el("div", {}, el("dt", {}, key), el("dd", {}, value === null ? "–" : String(value)))))),
  );
}

function runCount(runs) {
  const ensembles = runs.filter((run) => run.members !== null).length;
  return plural(runs.length - ensembles, "run") + (ensembles ? `, ${plural(ensembles, "ensemble")}` : "");
}

function fastestWithin(methods, name, range) {
  const time = timeOf(state.group);
  const close = methods.filter((method) => time in method.metrics && method.metrics[name][0] >= range[0] && method.metrics[name][0] <= range[1]);
  return close.sort((a, b) => a.metrics[time][0] - b.metrics[time][0])[0] ?? null;
}

when(["group"], renderToolbar);
when(["measure"], renderMetricChoice);
when(["group", "selection"], renderChips);
when(["group", "measure"], renderOverview);
