// The confusion matrices of one or two runs, as counts or as shares of the gold class.

const confusion = { run: null, beside: null, form: "shares" };

function renderConfusion() {
  const section = document.getElementById("confusion");
  const having = state.group.runs.filter((run) => run.splits[state.split]?.confusion);
  section.hidden = !having.length;
  if (section.hidden) return;
  const order = bestRuns(state.group).filter((run) => having.includes(run));
  if (!having.includes(confusion.run)) {
    confusion.run = order[0] ?? having[0];
    confusion.beside = order[1] ?? null;
  }
  if (!having.includes(confusion.beside)) confusion.beside = null;
  const place = el("div", { class: "matrices" });
  const draw = () => place.replaceChildren(...[confusion.run, confusion.beside].filter((run) => run).map(matrix));
  const names = having.map((run) => [run.name, run.name]);
  const find = (name) => having.find((run) => run.name === name) ?? null;
  body("confusion").replaceChildren(
    el("div", { class: "fields" },
      choice("Run", names, confusion.run.name, (name) => {
        confusion.run = find(name);
        draw();
      }),
      choice("Beside it", [["", "none"], ...names], confusion.beside?.name ?? "", (name) => {
        confusion.beside = find(name);
        draw();
      }),
      segments("Cells", [["shares", "% of gold"], ["counts", "counts"]], confusion.form, (form) => {
        confusion.form = form;
        draw();
      })),
    place,
    note("Rows are gold labels with the number of their texts, columns are predictions; colours follow the share of the gold label."),
    having.some((run) => run.splits[state.split].support)
      ? note("Texts have any number of labels: a cell counts texts with the gold label that got the label of the column, so that the cells of a row overlap.")
      : "");
  draw();
}

function matrix(run) {
  const labels = state.group.labels;
  const counts = run.splits[state.split].confusion;
  const invalid = counts.some((row) => row.at(-1) > 0);
  const support = run.splits[state.split].support;
  const header = invalid ? [...labels, support ? "no label" : "no valid label"] : labels;
  const cell = (row, index, total, gold) => {
    const share = total ? row[index] / total : 0;
    const text = confusion.form === "counts" ? row[index].toLocaleString("en") : [percent(share).slice(0, -2), el("span", { class: "unit" }, " %")];
    const node = el("td", {
      class: `cell${row[index] ? "" : " zero"}${header[index] === gold ? " hit" : ""}`,
      title: `${gold} → ${header[index]}: ${row[index].toLocaleString("en")} of ${total.toLocaleString("en")} (${percent(share)})`,
    }, row[index] ? text : "·");
    node.style.setProperty("--share", `${Math.round(100 * share)}%`);
    return node;
  };
  const levels = Array.from({ length: Math.max(0, ...state.group.parents.map((names) => names.length)) }, (_, level) => parentSpans(level, labels.length));
  const over = levels.map((spans) => el("tr", { class: "parents" }, el("td", { colspan: levels.length + 1 }), spans.map(({ first, last, name }) =>
    name ? el("th", { scope: "colgroup", colspan: last - first + 1 }, name) : el("td", { colspan: last - first + 1 })), invalid ? el("td", {}) : null));
  const beside = (gold) => levels.map((spans) => {
    const span = spans.find(({ first }) => first === gold);
    if (!span) return null;
    const rows = span.last - span.first + 1;
    return span.name ? el("th", { scope: "rowgroup", rowspan: rows, class: "parent" }, el("span", {}, span.name)) : el("td", { rowspan: rows });
  });
  const table = el("table", { class: "matrix" },
    el("caption", {}, run.name),
    el("thead", {}, over, el("tr", {}, el("td", { colspan: levels.length + 1 }), header.map((label) => el("th", { scope: "col" }, el("span", {}, label))))),
    el("tbody", {}, counts.map((row, gold) => {
      const total = support ? support[gold] : row.reduce((sum, count) => sum + count, 0);
      return el("tr", {}, beside(gold), el("th", { scope: "row" }, labels[gold], el("span", { class: "count" }, total.toLocaleString("en"))),
        header.map((_, index) => cell(row, index, total, labels[gold])));
    })));
  table.style.setProperty("--columns", header.length);
  return scrolling(`Confusion matrix of ${run.name}`, table);
}

// First and last label below each parent of a level, in order; labels without one have no name over them.
function parentSpans(level, count) {
  const path = (label) => JSON.stringify(state.group.parents[label].slice(0, level + 1));
  const spans = [];
  for (let label = 0; label < count; label += 1) {
    const name = state.group.parents[label][level] ?? null;
    if (label && name !== null && spans.at(-1).name !== null && path(label) === path(label - 1)) spans.at(-1).last = label;
    else spans.push({ first: label, last: label, name });
  }
  return spans;
}

when(["group", "measure"], renderConfusion);
