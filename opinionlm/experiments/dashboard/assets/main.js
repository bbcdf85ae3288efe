// Title, colours, navigation; then everything is drawn once.

function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : window.matchMedia("(prefers-color-scheme: dark)").matches;
}

function renderTheme() {
  document.getElementById("theme").textContent = isDark() ? "Light colours" : "Dark colours";
}

// Storage may be forbidden for pages from the disk; the choice then lasts as long as the page.
function stored(write) {
  try {
    if (write) localStorage.setItem("opinionlm-theme", write);
    return localStorage.getItem("opinionlm-theme");
  } catch {
    return null;
  }
}

function renderNavigation() {
  const sections = [...document.querySelectorAll("main > section")].filter((section) => !section.hidden);
  document.getElementById("sections").replaceChildren(
    ...sections.map((section) => el("li", {}, el("a", { href: `#${section.id}` }, section.querySelector("h2").textContent))));
}

const before = stored();
if (before === "dark" || before === "light") document.documentElement.dataset.theme = before;
document.getElementById("theme").addEventListener("click", () => {
  document.documentElement.dataset.theme = isDark() ? "light" : "dark";
  stored(document.documentElement.dataset.theme);
  renderTheme();
});
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", renderTheme);
renderTheme();

const total = page.groups.reduce((sum, group) => sum + group.runs.length, 0);
document.getElementById("title").textContent = page.root;
document.getElementById("lead").textContent = `${plural(total, "finished run")}${page.unusable.length ? `, ${page.unusable.length} without results` : ""} · opinionlm`;

when(["group", "measure"], renderNavigation);
if (state.group) chooseGroup(state.group);
else {
  for (const section of document.querySelectorAll("main > section")) section.hidden = true;
  document.getElementById("toolbar").hidden = true;
  renderUnusable();
  renderNavigation();
}
