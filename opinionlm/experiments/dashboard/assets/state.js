// What the reader looks at: a group of comparable runs, a split, a metric, the runs compared. Sections listen.

const page = JSON.parse(document.getElementById("data").textContent);
const MOST_SELECTED = 8;

const state = { group: page.groups[0] ?? null, split: "test", metric: "" };
const listeners = { group: [], selection: [], measure: [] };
// Runs keep their colour while others come and go: slot → run, per group.
const slots = new Map();

function when(topics, listener) {
  for (const topic of topics) listeners[topic].push(listener);
}

function changed(topic) {
  for (const listener of listeners[topic]) listener();
}

function splitsOf(group) {
  return ["test", "validation"].filter((split) =>
    group.runs.some((run) => Object.keys(run.metrics).some((name) => name.startsWith(`${split}.`))));
}

// Metrics of a split that any run has, the main one first; scores of single classes have their own section.
function metricsOf(group, split) {
  const names = new Set();
  for (const run of group.runs) {
    for (const name of Object.keys(run.metrics)) {
      if (name.startsWith(`${split}.`) && !name.startsWith(`${split}.f1_`)) names.add(name.slice(split.length + 1));
    }
  }
  names.delete(group.main);
  return [group.main, ...names];
}

function measure(run, name = `${state.split}.${state.metric}`) {
  return run.metrics[name] ?? null;
}

function directionOf(name) {
  return page.directions[name.slice(name.indexOf(".") + 1)] ?? "";
}

// Runs that have a value, best first; where nobody knows which way is better, the largest first.
function ranked(runs, name) {
  const sign = directionOf(name) === "lower" ? 1 : -1;
  return runs.filter((run) => measure(run, name) !== null).sort((a, b) => sign * (measure(a, name) - measure(b, name)));
}

function chooseGroup(group) {
  state.group = group;
  const splits = splitsOf(group);
  if (!splits.includes(state.split)) state.split = splits[0] ?? "test";
  state.metric = group.main;
  if (!slots.has(group)) {
    // The best run of each method; runs of one method alone are compared with each other.
    const first = bestRuns(group);
    const rest = first.length > 1 ? [] : ranked(group.runs, `${state.split}.${state.metric}`).filter((run) => !first.includes(run));
    slots.set(group, [...first, ...rest].slice(0, 4));
  }
  changed("group");
}

function chooseSplit(split) {
  state.split = split;
  const names = metricsOf(state.group, split);
  if (!names.includes(state.metric)) state.metric = names[0];
  changed("measure");
}

function chooseMetric(metric) {
  state.metric = metric;
  changed("measure");
}

// Compared runs as {run, slot}; the slot (from 1) decides colour, marker and line.
function selection() {
  return slots.get(state.group).map((run, index) => ({ run, slot: index + 1 })).filter(({ run }) => run !== null);
}

function isSelected(run) {
  return slots.get(state.group).includes(run);
}

function toggleRun(run) {
  const places = slots.get(state.group);
  const place = places.indexOf(run);
  if (place >= 0) {
    places[place] = null;
    announce(`${run.name} is no longer compared`);
  } else {
    const free = places.indexOf(null);
    if (free >= 0) places[free] = run;
    else if (places.length < MOST_SELECTED) places.push(run);
    else announce(`At most ${MOST_SELECTED} runs can be compared; take one out first`);
    if (places.includes(run)) announce(`${run.name} is compared`);
  }
  changed("selection");
}
