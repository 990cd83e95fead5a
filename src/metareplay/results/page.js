const [specifications, problems] = ["specifications", "data"].map((id) => JSON.parse(document.getElementById(id).textContent));
const all = (selector, within = document) => [...within.querySelectorAll(selector)];
const make = (tag, more) => Object.assign(document.createElement(tag), more);
const filters = document.getElementById("filters");
const MOST = 2000; // rows of a figure's table

const chosen = () => {
  const asked = new FormData(filters);
  return { problem: asked.get("problem"), size: asked.get("size"), methods: new Set(asked.getAll("method")) };
};
const fits = (choice, method, memories) =>
  choice.methods.has(method) && (choice.size === "" || memories === "" || memories === choice.size);

function filter() {
  const choice = chosen();
  const of = (problem) => choice.problem === "" || problem === undefined || problem === choice.problem;
  for (const part of all("main [data-problem]:is(section, th, td)")) part.hidden = !of(part.dataset.problem);
  for (const row of all("main tr[data-method]")) {
    row.hidden = !fits(choice, row.dataset.method, row.dataset.memories) || !of(row.dataset.problem);
  }
  for (const part of all("main [data-size]")) part.hidden = ![part.dataset.size, ""].includes(choice.size) && part.dataset.size !== "0";
  for (const panel of all(".panel[data-group]")) {
    const group = problems[panel.closest("figure").dataset.index].groups[panel.dataset.group];
    panel.hidden = !fits(choice, group.method, group.memories);
  }
  const rows = all("#costs tbody tr");
  const visible = rows.filter((row) => !row.closest("[hidden]")).length;
  const count = visible === rows.length ? `All ${visible}` : `${visible} of ${rows.length}`;
  document.getElementById("shown").textContent = `${count} configurations are shown.`;
  all("figure").forEach(fillTable);
  drawThoseNear();
}

function rowsOf({ dataset: { index, figure: kind } }, panel) {
  const [choice, rows, { group: only, size }] = [chosen(), [], panel?.dataset ?? {}];
  let columns = {};
  problems[index].groups.forEach((group, place) => {
    if (!group.rows[kind]) return;
    columns = { ...columns, ...group.rows[kind] };
    const { memories } = group;
    const elsewhere = Number(only ?? place) !== place || (size && memories && memories !== "0" && memories !== size);
    if (elsewhere || !fits(choice, group.method, memories)) return;
    for (let i = 0; i < columns.n; i++) {
      const cells = Object.entries(columns).map(([name, column]) => [name, Array.isArray(column) ? column[i] : column]);
      rows.push({ label: group.label, ...Object.fromEntries(cells) });
    }
  });
  if (kind === "retained") rows.sort((a, b) => b.mean - a.mean);
  if (kind === "memory") rows.sort((a, b) => a.order - b.order);
  return rows;
}

function draw(panel) {
  if (panel.offsetParent === null) return;
  const figure = panel.closest("figure");
  const { index, figure: kind } = figure.dataset;
  const rows = rowsOf(figure, panel);
  const place = panel.querySelector(".view");
  panel.drawn?.then((view) => view.finalize());
  panel.dataset.state = rows.length ? "drawn" : "empty";
  if (!rows.length) return;
  const specification = structuredClone(specifications[kind]);
  specification.data.find(({ name }) => name === "rows").values = rows;
  const there = new Set(rows.map(({ method }) => method));
  for (const scale of specification.scales.filter(({ name }) => /^(color|shape|strokeDash)$/.test(name) && kind !== "matrix")) {
    const kept = scale.domain.map((method, i) => [method, scale.range[i]]).filter(([method]) => there.has(method));
    [scale.domain, scale.range] = [0, 1].map((i) => kept.map((pair) => pair[i]));
  }
  const ends = problems[index].ends[kind];
  for (const signal of specification.signals ?? []) if (signal.name in ends) signal.value = ends[signal.name];
  specification.width = Math.max(180, place.clientWidth);
  for (const legend of specification.legends ?? []) legend.columns = Math.max(1, Math.floor(place.clientWidth / 150));
  const theme = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  const options = { mode: "vega", renderer: "svg", actions: false, defaultStyle: false, logLevel: 1, tooltip: { theme } };
  panel.drawn = vegaEmbed(place, specification, options).then(({ view }) => {
    place.setAttribute("aria-label", described(figure, panel, rows));
    return view;
  });
}

function described(figure, panel, rows) {
  const title = all("h4", figure).concat(all("h5", panel)).map((part) => part.textContent);
  const last = new Map(rows.filter(({ mean }) => mean !== undefined).map(({ name, mean }) => [name, mean]));
  const found = [...last].sort((a, b) => b[1] - a[1]).map(([name, mean]) => `${name} ${mean.toFixed(1)} %`);
  if (found.length > 12) found.splice(6, found.length - 12, "…");
  const end = found.length ? ` ${"at" in rows[0] ? "At the end" : "Means"}: ${found.join(", ")}.` : "";
  return `${title.join(", ")}.${end} The figure's data are in the table below it.`;
}

function drawThoseNear() {
  for (const panel of all(".panel")) {
    delete panel.dataset.state;
    if (panel.dataset.near === "true") draw(panel);
  }
}

function fillTable(figure) {
  const details = figure.querySelector(".data");
  details.querySelector(".scroll")?.remove();
  if (!details.open) return;
  const columns = Object.entries(specifications[figure.dataset.figure].usermeta.columns);
  const rows = rowsOf(figure);
  const title = figure.querySelector("h4").textContent;
  const table = make("table");
  const more = rows.length > MOST ? `, the first ${MOST} of ${rows.length} rows; filters show the others` : "";
  table.createCaption().textContent = title + more;
  table.createTHead().insertRow().append(...columns.map(([, name]) => make("th", { scope: "col", textContent: name })));
  const body = table.createTBody();
  for (const row of rows.slice(0, MOST)) {
    const [first, ...others] = columns.map(([field]) => ({ textContent: [row[field] ?? "–"].flat().join(", ") }));
    body.insertRow().append(make("th", { scope: "row", ...first }), ...others.map((cell) => make("td", cell)));
  }
  details.append(make("div", { className: "scroll", tabIndex: 0, role: "region", ariaLabel: `Data: ${title}` }));
  details.lastChild.append(table);
}

async function copy(button) {
  const content = button.nextElementSibling.content.textContent;
  try {
    await navigator.clipboard.writeText(content);
  } catch {
    const area = make("textarea", { value: content });
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
    button.focus();
  }
  const before = button.textContent;
  document.getElementById("copied").textContent = `${before}: done`;
  button.textContent = "Copied";
  setTimeout(() => (button.textContent = before), 1500);
}

const near = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    target.dataset.near = isIntersecting;
    if (isIntersecting && !target.dataset.state) draw(target);
  }
}, { rootMargin: "600px" });
let width = innerWidth;
addEventListener("beforeprint", () => all(".panel:not([data-state])").forEach(draw));
addEventListener("resize", () => {
  if (innerWidth !== width) requestAnimationFrame(drawThoseNear);
  width = innerWidth;
});
filters.addEventListener("change", filter);
filters.addEventListener("submit", (event) => event.preventDefault());
document.addEventListener("click", ({ target }) => {
  const button = target.closest?.("button");
  if (button?.dataset.copy && button.textContent !== "Copied") copy(button);
  if (button?.name === "every" || button?.name === "none") {
    for (const box of all("[name=method]", filters)) box.checked = button.name === "every";
    filter();
  }
});
for (const details of all(".data")) details.addEventListener("toggle", () => fillTable(details.closest("figure")));
all(".panel").forEach((panel) => near.observe(panel));
filter();
