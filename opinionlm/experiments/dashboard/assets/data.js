// The report of the prepared data: class counts, and what every step did.

const dataView = { report: 0, platform: "all" };

function renderData() {
  const section = document.getElementById("data-report");
  const reports = state.group.reports;
  if (!reports.length) {
    section.hidden = false;
    body("data-report").replaceChildren(note("The prepared data set of these runs was not found on this machine, so there is no report to show."));
    return;
  }
  dataView.report = 0;
  const place = el("div", {});
  const draw = () => place.replaceChildren(...dataReport(reports[dataView.report]));
  body("data-report").replaceChildren(
    ...(reports.length > 1
      ? [el("div", { class: "fields" }, choice("Version", reports.map((report, index) => [String(index), `${report.name} ${report.fingerprint.slice(0, 12)}`]), "0", (index) => {
          dataView.report = Number(index);
          draw();
        }))]
      : []),
    place);
  draw();
}

function dataReport(report) {
  const number = (value) => value.toLocaleString("en");
  const parts = [];
  const rows = Object.entries(report.rows).map(([split, count]) => `${split} ${number(count)}`).join(", ");
  const totals = report.totals.in === undefined ? "" : `${plural(report.totals.in, "record")} = ${number(report.totals.kept)} kept + ${number(report.totals.rejected)} rejected. `;
  parts.push(el("p", {}, el("b", {}, report.name), `: ${totals}Texts: ${rows}. Fingerprint ${report.fingerprint.slice(0, 16)}.`));
  parts.push(...report.warnings.map((warning) => note(`Warning: ${warning}`)));
  const platforms = Object.keys(report.classes);
  if (platforms.length) parts.push(classCounts(report, platforms));
  if (report.steps.length) {
    parts.push(folded("Processing steps", simpleTable("Processing steps", ["step", "in", "changed", "relabelled", "removed", "out"],
      report.steps.map(([name, ...counts]) => [name, ...counts.map(number)]))));
  }
  if (report.rejected.length) {
    parts.push(folded("Rejected records by reason", simpleTable("Rejected records", ["reason", "records", "meaning"],
      report.rejected.map(([reason, meaning, count]) => [reason.replaceAll("_", " "), number(count), meaning]), (index) => index === 1)));
  }
  const lengths = Object.entries(report.tokens);
  if (lengths.length) {
    const names = Object.keys(lengths[0][1]);
    parts.push(folded("Length in tokens", simpleTable("Length in tokens", ["platform", ...names],
      lengths.map(([platform, values]) => [platform, ...names.map((name) => (values[name] === undefined ? "–" : Number(values[name].toPrecision(6)).toLocaleString("en")))]))));
  }
  return parts;
}

function classCounts(report, platforms) {
  const place = el("div", {});
  if (!platforms.includes(dataView.platform)) dataView.platform = platforms.at(-1);
  const draw = () => {
    const splits = Object.entries(report.classes[dataView.platform]);
    const levels = Object.keys(splits[0][1]);
    place.replaceChildren(...levels.map((level) => {
      const labels = Object.keys(splits[0][1][level]);
      const largest = Math.max(1, ...labels.map((label) => splits[0][1][level][label]));
      const rows = labels.map((label) => {
        const bar = el("span", { class: "share", "aria-hidden": "true" });
        bar.style.setProperty("--share", `${(100 * splits[0][1][level][label]) / largest}%`);
        return [el("span", { class: "labelled" }, label, bar), ...splits.map(([, counts]) => (counts[level][label] ?? 0).toLocaleString("en"))];
      });
      return el("div", { class: "counts" }, el("h3", {}, level === "label" ? "Classes" : level.replace(/(\d+)/, " $1")),
        simpleTable(`Class counts, ${level}`, [level === "label" ? "class" : "label", ...splits.map(([split]) => split)], rows));
    }));
  };
  const node = el("div", {},
    platforms.length > 1
      ? el("div", { class: "fields" }, choice("Platform", platforms.map((name) => [name, name]), dataView.platform, (name) => {
          dataView.platform = name;
          draw();
        }))
      : null,
    place);
  place.className = "side-by-side";
  draw();
  return node;
}

function renderUnusable() {
  const section = document.getElementById("unusable");
  section.hidden = !page.unusable.length;
  body("unusable").replaceChildren(simpleTable("Folders without results", ["folder", "state", "reason"],
    page.unusable.map((entry) => [entry.name, entry.state, entry.reason]), () => false));
  const incomplete = page.groups.flatMap((group) => group.runs).filter((run) => run.warnings.length);
  if (incomplete.length) {
    section.hidden = false;
    body("unusable").append(el("h3", {}, "Finished runs of which something could not be read"),
      simpleTable("Incomplete runs", ["run", "what"], incomplete.map((run) => [run.name, run.warnings.join("; ")]), () => false));
  }
  if (!page.unusable.length) body("unusable").firstChild.remove();
}

when(["group"], renderData);
when(["group"], renderUnusable);
