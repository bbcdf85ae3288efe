// Learning curves of the compared runs.

function curveChart(title, name, describe, smooth) {
  const series = selection()
    .map(({ run, slot }) => ({ run, slot, points: run.curves[name] ?? [] }))
    .filter(({ points }) => points.length);
  if (!series.length) return null;
  const steps = series.flatMap(({ points }) => points.map(([step]) => step));
  const values = series.flatMap(({ points }) => points.map(([, value]) => value));
  const draw = (width) => {
    const height = 240;
    const box = { left: 46, right: width - 12, top: 12, bottom: height - 44 };
    const root = canvas(width, height, `${title} of ${series.map(({ run }) => run.name).join(", ")}`);
    const [lowX, highX] = padded(Math.min(...steps), Math.max(...steps), 0.03);
    const [lowY, highY] = padded(Math.min(...values), Math.max(...values));
    const x = linear(lowX, highX, box.left, box.right);
    const y = linear(lowY, highY, box.bottom, box.top);
    axes(root, box,
      { scale: x, ticks: ticks(Math.max(0, lowX), highX, width / 90), text: (value) => value.toLocaleString("en"), label: "optimizer steps" },
      { scale: y, ticks: ticks(lowY, highY, 5), text: (value) => String(Number(value.toPrecision(6))) });
    for (const { slot, points } of series) {
      const placed = points.map(([step, value]) => [x(step), y(value)]);
      if (smooth && points.length >= 20) {
        root.append(line(slot, placed, { "stroke-opacity": 0.25 }));
        const mean = movingMean(points.map(([, value]) => value));
        root.append(line(slot, points.map(([step], index) => [x(step), y(mean[index])])));
      } else {
        root.append(line(slot, placed), ...placed.map(([a, b]) => marker(slot, a, b, points.length > 40 ? 1.5 : 3.6)));
      }
    }
    const cursor = svg("line", { class: "cursor", y1: box.top, y2: box.bottom, visibility: "hidden" });
    root.append(cursor);
    root.addEventListener("pointermove", (event) => {
      const place = event.clientX - root.getBoundingClientRect().left;
      const step = nearest(steps, lowX + ((place - box.left) / (box.right - box.left)) * (highX - lowX));
      cursor.setAttribute("x1", x(step));
      cursor.setAttribute("x2", x(step));
      cursor.setAttribute("visibility", "visible");
      showHint(event, `step ${step.toLocaleString("en")}`, series.map(({ run, slot, points }) => {
        const at = nearest(points.map((point) => point[0]), step);
        return [slot, `${describe(points.find((point) => point[0] === at)[1])}  ${run.name}`];
      }));
    });
    root.addEventListener("pointerleave", () => {
      cursor.setAttribute("visibility", "hidden");
      hideHint();
    });
    return root;
  };
  const rows = series.map(({ run, points }) => {
    const found = points.map(([, value]) => value);
    return [run.name, points.length, describe(found[0]), describe(Math.min(...found)), describe(Math.max(...found)), describe(found.at(-1))];
  });
  return figure(title, draw, folded("Numbers", simpleTable(title, ["run", "points", "first", "lowest", "highest", "last"], rows)));
}

// Centred mean over a tenth of the curve; the ends average over what there is.
function movingMean(values) {
  const reach = Math.max(1, Math.floor(values.length / 20));
  return values.map((_, index) => {
    const window = values.slice(Math.max(0, index - reach), index + reach + 1);
    return window.reduce((sum, value) => sum + value, 0) / window.length;
  });
}

function renderCurves() {
  const three = (value) => metricText("validation.loss", value);
  const metric = selection().some(({ run }) => run.curves[`eval_${state.metric}`]) ? state.metric : state.group.main;
  const charts = [
    curveChart("Training loss", "loss", three, true),
    curveChart("Validation loss", "eval_loss", three, false),
    metric === "loss" ? null : curveChart(`Validation ${metricTitle(metric)}`, `eval_${metric}`, three, false),
  ].filter((chart) => chart !== null);
  const without = selection().filter(({ run }) => !Object.keys(run.curves).length);
  body("curves").replaceChildren(
    charts.length ? el("div", { class: "figures" }, charts) : note("None of the compared runs logged a history."),
    ...(charts.length && without.length ? [note(`Without a history: ${without.map(({ run }) => run.name).join(", ")}.`)] : []),
  );
}

when(["group", "selection", "measure"], renderCurves);
