// The confusion matrices of one or two runs, as counts or as shares of the gold class.

const confusion = { run: null, beside: null, form: "shares" };

function renderConfusion() {
  const section = document.getElementById("confusion");
  const having = state.group.runs.filter((run) => run.splits[state.split]?.confusion);
  section.hidden = !having.length;
  if (section.hidden) return;
  const order = ranked(having, `${state.split}.${state.group.main}`);
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
    note("Rows are gold labels with the number of their texts, columns are predictions; colours follow the share of the gold label."));
  draw();
}

function matrix(run) {
  const labels = state.group.labels;
  const counts = run.splits[state.split].confusion;
  const invalid = counts.some((row) => row.at(-1) > 0);
  const header = invalid ? [...labels, "no valid label"] : labels;
  const cell = (row, index, total, gold) => {
    const share = total ? row[index] / total : 0;
    const text = confusion.form === "counts" ? row[index].toLocaleString("en") : percent(share);
    const node = el("td", {
      class: `cell${row[index] ? "" : " zero"}${header[index] === gold ? " hit" : ""}`,
      title: `${gold} → ${header[index]}: ${row[index].toLocaleString("en")} of ${total.toLocaleString("en")} (${percent(share)})`,
    }, row[index] ? text : "·");
    node.style.setProperty("--share", `${Math.round(100 * share)}%`);
    return node;
  };
  return scrolling(`Confusion matrix of ${run.name}`, el("table", { class: "matrix" },
    el("caption", {}, run.name),
    el("thead", {}, el("tr", {}, el("td", {}), header.map((label) => el("th", { scope: "col" }, el("span", {}, label))))),
    el("tbody", {}, counts.map((row, gold) => {
      const total = row.reduce((sum, count) => sum + count, 0);
      return el("tr", {}, el("th", { scope: "row" }, labels[gold], el("span", { class: "count" }, total.toLocaleString("en"))),
        header.map((_, index) => cell(row, index, total, labels[gold])));
    }))));
}

when(["group", "measure"], renderConfusion);
