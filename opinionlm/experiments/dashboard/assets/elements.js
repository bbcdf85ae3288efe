// Building the page: every text becomes a text node, so nothing in a post or a name is ever read as markup.

const SVG = "http://www.w3.org/2000/svg";

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "checked" || name === "value" || name === "selected") node[name] = value;
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

function el(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

function svg(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

function body(section) {
  return document.querySelector(`#${section} > .body`);
}

function note(text) {
  return el("p", { class: "note" }, text);
}

function announce(text) {
  document.getElementById("announcement").textContent = text;
}

let fields = 0;

// A select with its label; options are [value, text] pairs.
function choice(label, options, value, onchange, attributes = {}) {
  const id = attributes.id ?? `field-${(fields += 1)}`;
  const select = el(
    "select",
    { ...attributes, id, onchange: () => onchange(select.value) },
    options.map(([key, text]) => el("option", { value: key, selected: key === value }, text)),
  );
  return el("div", { class: "field" }, el("label", { for: id }, label), select);
}

function textField(label, placeholder, oninput) {
  const id = `field-${(fields += 1)}`;
  const input = el("input", { id, type: "search", placeholder, autocomplete: "off", oninput: () => oninput(input.value) });
  return el("div", { class: "field grow" }, el("label", { for: id }, label), input);
}

function tick(label, checked, onchange) {
  const box = el("input", { type: "checkbox", checked, onchange: () => onchange(box.checked) });
  return el("label", { class: "tick" }, box, el("span", {}, label));
}

// Buttons of which one is pressed; options are [value, text] pairs.
function segments(label, options, value, onchange) {
  const buttons = options.map(([key, text]) =>
    el("button", { type: "button", "aria-pressed": String(key === value), onclick: () => press(key) }, text),
  );
  function press(key) {
    buttons.forEach((button, index) => button.setAttribute("aria-pressed", String(options[index][0] === key)));
    onchange(key);
  }
  return el("div", { class: "field", role: "group", "aria-label": label },
    el("span", { class: "label" }, label), el("div", { class: "segments" }, buttons));
}

// A table that scrolls inside itself; the first cell of a row is its header. Cells are texts, numbers or nodes.
function simpleTable(caption, header, rows, numeric = () => true) {
  const cell = (value, index) =>
    index === 0
      ? el("th", { scope: "row" }, value)
      : el("td", { class: numeric(index) ? "number" : null }, value);
  return scrolling(
    caption,
    el("table", {},
      el("caption", { class: "visually-hidden" }, caption),
      el("thead", {}, el("tr", {}, header.map((name, index) =>
        el("th", { scope: "col", class: index && numeric(index) ? "number" : null }, name)))),
      el("tbody", {}, rows.map((row) => el("tr", {}, row.map(cell))))),
  );
}

// A table that becomes a list of cards where the screen is narrow; roles stay, whatever CSS makes of the boxes.
function stackedTable(caption, header, rows, empty = "") {
  const heading = (title) => (title instanceof Element && title.tagName === "TH" ? title : el("th", { scope: "col", role: "columnheader" }, title));
  const none = () => el("tr", { role: "row" }, el("td", { colspan: header.length, class: "nothing", role: "cell" }, empty));
  return scrolling(caption, el("table", { class: "stack", role: "table" },
    el("caption", { class: "visually-hidden" }, caption),
    el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, header.map(heading))),
    el("tbody", { role: "rowgroup" }, rows.length ? rows : none())));
}

// A row of it: a cell with a box to tick, its name, then [title, content, class] for every other cell.
function stackedRow(pick, name, cells) {
  return el("tr", { role: "row" }, pick, el("th", { scope: "row", role: "rowheader" }, name),
    cells.map(([title, content, kind, attributes]) => el("td", { class: kind || null, role: "cell", "data-label": title, ...attributes }, el("div", {}, content))));
}

function scrolling(label, ...children) {
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label }, children);
}

function folded(summary, ...children) {
  return el("details", {}, el("summary", {}, summary), children);
}
