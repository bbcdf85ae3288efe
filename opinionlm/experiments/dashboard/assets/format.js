// Names and numbers as people read them.

const METRIC_WORDS = { f1: "F1", ece: "ECE", nll: "NLL", mse: "MSE", mae: "MAE", mcc: "MCC", mb: "(MB)", flops: "FLOPs" };

// `level1_macro_f1` is shown as "level 1 macro-F1", `f1_noise` as "F1 noise".
function metricTitle(name) {
  if (name.startsWith("f1_")) return `F1 ${name.slice(3)}`;
  return name
    .replace(/^level(\d+)_/, "level $1 ")
    .split("_")
    .map((word) => METRIC_WORDS[word] ?? word)
    .join(" ")
    .replace(/(macro|weighted|micro|hierarchical|entity) F1/, "$1-F1");
}

function optionTitle(name) {
  return name.replace(/_name_or_path$/, "").replaceAll("_", " ");
}

// The last part of a path says enough; the rest is in the tooltip.
function optionText(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "number") {
    const short = Number(value.toPrecision(6));
    return Math.abs(value) < 1e-3 && value !== 0 ? short.toExponential() : String(short);
  }
  if (!value.includes("/")) return value;
  const parts = value.replace(/\/+$/, "").split("/");
  // A folder that is only called a model is told by the one that it lies in.
  return parts.slice(parts.length > 1 && ["model", "best"].includes(parts.at(-1)) ? -2 : -1).join("/");
}

function withUnit(value) {
  const units = [[1e15, "P"], [1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]];
  for (const [size, unit] of units) {
    if (Math.abs(value) >= size) return `${Number((value / size).toPrecision(3))} ${unit}`;
  }
  return String(Number(value.toPrecision(3)));
}

function duration(seconds) {
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 120 ? `${minutes} min` : `${(seconds / 3600).toFixed(1)} h`;
}

// `name` is a metric with its section, e.g. test.macro_f1 or cost.train_seconds.
function metricText(name, value) {
  if (value === null || value === undefined) return "–";
  const last = name.slice(name.indexOf(".") + 1);
  if (last.endsWith("_seconds")) return duration(value);
  if (last.endsWith("parameters") || last.endsWith("flops")) return withUnit(value);
  if (last.endsWith("_mb")) return `${Math.round(value).toLocaleString("en")} MB`;
  if (name.startsWith("train.") && last !== "loss") return String(Number(value.toPrecision(4)));
  if (Number.isInteger(value) && Math.abs(value) > 1) return value.toLocaleString("en");
  if (Math.abs(value) >= 1000) return Math.round(value).toLocaleString("en");
  return Math.abs(value) >= 100 ? value.toFixed(1) : value.toFixed(3);
}

// Runs are compared by all the time they took; those from before that was noted, by that of training.
function timeOf(group) {
  return group.runs.some((run) => "cost.total_seconds" in run.metrics) ? "cost.total_seconds" : "cost.train_seconds";
}

function percent(share) {
  return `${(100 * share).toFixed(share > 0 && share < 0.1 ? 1 : 0)} %`;
}

function plural(count, one, many = `${one}s`) {
  return `${count.toLocaleString("en")} ${count === 1 ? one : many}`;
}
