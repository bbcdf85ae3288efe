// Runs that differ by nothing but the seed: mean and spread.

function renderSeeds() {
  const section = document.getElementById("seeds");
  const families = state.group.seeds;
  section.hidden = !families.length;
  if (section.hidden) return;
  const sorting = `${state.split}.${state.metric}`;
  const way = directionOf(sorting) === "lower" ? 1 : -1;
  // Families without the metric come last, whichever way is better.
  const last = way * Infinity;
  const order = [...families].sort((a, b) => {
    const [first, second] = [a, b].map((family) => way * (family.metrics[sorting]?.[0] ?? last));
    return first === second ? 0 : first - second;
  });
  const spread = (family, name) => {
    const found = family.metrics[name];
    if (!found) return "–";
    const [mean, deviation] = found;
    return name.startsWith("cost.") ? `${duration(mean)} ± ${duration(deviation)}` : `${metricText(name, mean)} ± ${metricText(name, deviation)}`;
  };
  const range = (family, name) => {
    const found = family.metrics[name];
    return found ? `${metricText(name, found[2][0])} to ${metricText(name, found[2][1])}` : "–";
  };
  const metric = metricTitle(state.metric);
  const other = splitsOf(state.group).filter((split) => split !== state.split);
  const seeds = (family) => (family.seeds.length > 6 ? `${family.seeds.slice(0, 5).join(", ")} and ${family.seeds.length - 5} more` : family.seeds.join(", "));
  const rows = order.map((family) => [
    familyTitle(family, families), seeds(family), spread(family, sorting), range(family, sorting),
    ...other.map((split) => spread(family, `${split}.${state.metric}`)), spread(family, timeOf(state.group)),
  ]);
  body("seeds").replaceChildren(
    simpleTable("Seeds", ["runs", "seeds", `${state.split} ${metric}`, "95 % interval of the mean", ...other.map((split) => `${split} ${metric}`), metricTitle(timeOf(state.group).slice(5))], rows),
    note("Mean ± sample standard deviation over runs whose options differ by nothing but the seed; t interval of the mean."),
  );
}

// The common part of the runs' names and the options in which the families differ.
function familyTitle(family, families) {
  const optionsOf = (one) => state.group.runs.find((run) => run.name === one.runs[0]).options;
  const different = state.group.varying.filter((name) => name !== "seed" && new Set(families.map((one) => JSON.stringify(optionsOf(one)[name]))).size > 1);
  const options = different.slice(0, 4).map((name) => `${optionTitle(name)} ${optionText(optionsOf(family)[name])}`);
  return el("span", { title: family.runs.join(", ") }, family.name, options.length ? el("span", { class: "range" }, options.join(", ")) : null);
}

when(["group", "measure"], renderSeeds);
