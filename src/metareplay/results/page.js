"use strict";
(async () => {
  const specifications = JSON.parse(document.getElementById("specifications").textContent);
  const packed = Uint8Array.from(atob(document.getElementById("data").textContent), (letter) => letter.charCodeAt(0));
  const unpacking = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const { problems, columns } = await new Response(unpacking).json();
  const filters = document.getElementById("filters");
  const tip = document.getElementById("tip");
  const views = new WeakMap(); // of each panel that was drawn, a promise

  // What is chosen

  const chosen = () => {
    const asked = new FormData(filters);
    return { problem: asked.get("problem"), size: asked.get("size"), methods: new Set(asked.getAll("method")) };
  };
  const fits = (choice, method, memories) =>
    choice.methods.has(method) && (choice.size === "" || memories === "" || memories === choice.size);

  function filter() {
    const choice = chosen();
    for (const element of document.querySelectorAll("main section[data-problem], main [data-problem]:is(th, td)")) {
      element.hidden = choice.problem !== "" && element.dataset.problem !== choice.problem;
    }
    for (const row of document.querySelectorAll("main tr[data-method]")) {
      const { problem, method, memories } = row.dataset;
      row.hidden =
        !fits(choice, method, memories) ||
        (choice.problem !== "" && problem !== undefined && problem !== choice.problem);
    }
    for (const element of document.querySelectorAll("main [data-size]")) {
      element.hidden = choice.size !== "" && element.dataset.size !== choice.size && element.dataset.size !== "0";
    }
    for (const element of document.querySelectorAll(".legend [data-method]")) {
      element.hidden = !choice.methods.has(element.dataset.method);
    }
    for (const panel of document.querySelectorAll(".panel[data-method]")) {
      panel.hidden = !fits(choice, panel.dataset.method, panel.dataset.memories);
    }
    for (const part of document.querySelectorAll(".table tbody")) {
      part.hidden = [...part.rows].every((row) => row.hidden);
    }
    const all = document.querySelectorAll("#costs tbody tr").length;
    const visible = [...document.querySelectorAll("#costs tbody tr")].filter((row) => !row.hidden).length;
    document.getElementById("shown").textContent =
      visible === all ? `All ${all} configurations are shown.` : `${visible} of ${all} configurations are shown.`;
    for (const figure of document.querySelectorAll("figure")) {
      fillTable(figure);
    }
    draw();
  }

  // The rows of a figure

  function unpacked({ length, same, columns: numbers }) {
    const varying = Object.entries(numbers);
    return Array.from({ length }, (_, i) => {
      const row = { ...same };
      for (const [name, number] of varying) row[name] = columns[number][i];
      return row;
    });
  }

  function rowsOf(figure, panel, choice) {
    const { index, figure: kind } = figure.dataset;
    const groups = problems[index].groups;
    const rows = groups.flatMap((group, place) => {
      const memories = group.memories === null ? "" : String(group.memories);
      const here =
        panel === null ||
        ((panel.dataset.group === undefined || Number(panel.dataset.group) === place) &&
          (panel.dataset.size === undefined || memories === "" || memories === "0" || memories === panel.dataset.size));
      if (!here || !group.rows[kind] || !fits(choice, group.method, memories)) return [];
      return unpacked(group.rows[kind]).map((row) => ({ label: group.label, ...row }));
    });
    if (kind === "retained") rows.sort((a, b) => b.mean - a.mean);
    if (kind === "memory") rows.sort((a, b) => a.order - b.order);
    return rows;
  }

  // Drawing: what is near the window at once, the rest when there is time

  function embedded(place, kind, rows, signals, width) {
    const specification = structuredClone(specifications[kind]);
    specification.data.find(({ name }) => name === "rows").values = rows;
    for (const signal of specification.signals ?? []) if (signal.name in signals) signal.value = signals[signal.name];
    if (width) specification.width = width;
    const options = { mode: "vega", renderer: "svg", actions: false, defaultStyle: false, logLevel: 1, tooltip: tell };
    return vegaEmbed(place, specification, options).then(({ view }) => view);
  }

  async function drawPanel(panel) {
    const figure = panel.closest("figure");
    const rows = rowsOf(figure, panel, chosen());
    const place = panel.querySelector(".view");
    const kind = figure.dataset.figure;
    place.hidden = rows.length === 0;
    panel.querySelector(".nothing").hidden = rows.length > 0;
    if (rows.length) {
      const [low, high] = problems[figure.dataset.index].ends[kind];
      const width = kind === "matrix" ? null : Math.max(200, place.clientWidth - 2);
      if (views.has(panel)) {
        const view = (await views.get(panel)).data("rows", rows);
        await (width ? view.width(width) : view).runAsync();
      } else {
        views.set(panel, embedded(place, kind, rows, { low, high }, width));
        await views.get(panel);
      }
      place.setAttribute("aria-label", described(figure, panel, rows));
    }
    panel.dataset.state = rows.length ? "drawn" : "empty";
  }

  function described(figure, panel, rows) {
    const title = [figure.querySelector("h4"), panel.querySelector("h5")].filter(Boolean).map((part) => part.textContent);
    const last = new Map();
    for (const row of rows) if (row.mean !== undefined) last.set(row.name, row.mean);
    const found = [...last].sort((a, b) => b[1] - a[1]).map(([name, mean]) => `${name} ${mean.toFixed(1)} %`);
    if (found.length > 12) found.splice(6, found.length - 12, "…");
    const end = found.length ? ` ${"at" in rows[0] ? "At the end" : "Means"}: ${found.join(", ")}.` : "";
    return `${title.join(", ")}.${end} The figure's data are in the table below it.`;
  }

  const waiting = new Set();
  let drawing = 0;
  let resting = false;
  const whenIdle = window.requestIdleCallback ?? ((work) => setTimeout(work, 1));
  const tellWaiting = () => (document.documentElement.dataset.waiting = waiting.size + drawing);

  async function now(panel) {
    waiting.delete(panel);
    drawing += 1;
    await drawPanel(panel);
    drawing -= 1;
    tellWaiting();
  }

  function rest() {
    tellWaiting();
    if (resting || !waiting.size) return;
    resting = true;
    whenIdle(async () => {
      for (const panel of [...waiting].slice(0, 2)) await now(panel);
      resting = false;
      rest();
    });
  }

  const near = new IntersectionObserver(
    (entries) => {
      for (const { target, isIntersecting } of entries) {
        target.dataset.near = isIntersecting;
        if (isIntersecting && waiting.has(target)) now(target);
      }
    },
    { rootMargin: "400px" },
  );

  function draw() {
    for (const panel of document.querySelectorAll(".panel")) {
      if (panel.offsetParent === null) waiting.delete(panel);
      else if (panel.dataset.near === "true") now(panel);
      else waiting.add(panel);
    }
    rest();
  }

  addEventListener("beforeprint", () => [...waiting].forEach(now));

  let width = innerWidth;
  let pause = 0;
  addEventListener("resize", () => {
    clearTimeout(pause);
    pause = setTimeout(() => {
      if (innerWidth !== width) draw();
      width = innerWidth;
    }, 150);
  });

  // Values on hover

  function tell(_, event, __, value) {
    if (value === null || value === undefined || value === "") {
      tip.hidden = true;
      return;
    }
    const list = document.createElement("dl");
    for (const [name, told] of Object.entries(value)) {
      if (told === "" || told === "null" || told === "NaN" || told === null) continue;
      const line = document.createElement("div");
      line.append(
        Object.assign(document.createElement("dt"), { textContent: name }),
        Object.assign(document.createElement("dd"), { textContent: told }),
      );
      list.append(line);
    }
    tip.replaceChildren(list);
    tip.hidden = false;
    const { width, height } = tip.getBoundingClientRect();
    tip.style.left = `${Math.max(4, Math.min(event.clientX + 14, innerWidth - width - 8))}px`;
    tip.style.top = `${event.clientY + 18 + height > innerHeight ? event.clientY - height - 10 : event.clientY + 18}px`;
  }
  addEventListener("scroll", () => (tip.hidden = true), { passive: true });

  // The data of a figure as a table, made when it is opened

  const MOST = 2000;
  function fillTable(figure) {
    const details = figure.querySelector(".data");
    details.querySelector(".scroll")?.remove();
    if (!details.open) return;
    const kind = figure.dataset.figure;
    const fields = Object.entries(specifications[kind].usermeta.columns);
    if (!fields.some(([field]) => field === "name")) fields.unshift(["label", "method"]);
    const rows = rowsOf(figure, null, chosen()).map((row) => ({ ...row, name: row.label }));
    const table = document.createElement("table");
    const head = table.createTHead().insertRow();
    for (const [, title] of fields) {
      head.append(Object.assign(document.createElement("th"), { scope: "col", textContent: title }));
    }
    const body = table.createTBody();
    for (const row of rows.slice(0, MOST)) {
      const line = body.insertRow();
      fields.forEach(([field], place) => {
        const cell = document.createElement(place ? "td" : "th");
        if (!place) cell.scope = "row";
        const value = row[field];
        cell.textContent = value === null || value === undefined ? "–" : Array.isArray(value) ? value.join(", ") : value;
        line.append(cell);
      });
    }
    const title = figure.querySelector("h4").textContent;
    const more = rows.length > MOST ? `, the first ${MOST} of ${rows.length} rows; filters show the others` : "";
    table.createCaption().textContent = title + more;
    const scroll = Object.assign(document.createElement("div"), { className: "scroll", tabIndex: 0 });
    scroll.setAttribute("role", "region");
    scroll.setAttribute("aria-label", `Data: ${title}`);
    scroll.append(table);
    details.append(scroll);
  }
  for (const details of document.querySelectorAll(".data")) {
    details.addEventListener("toggle", () => fillTable(details.closest("figure")));
  }

  // Copying a table

  const SPECIAL = {
    "\\": "\\textbackslash{}", "{": "\\{", "}": "\\}", $: "\\$", "&": "\\&", "#": "\\#", "%": "\\%", _: "\\_",
    "^": "\\textasciicircum{}", "~": "\\textasciitilde{}", "<": "\\textless{}", ">": "\\textgreater{}",
    "|": "\\textbar{}", '"': "\\textquotedbl{}", "[": "{[}", "]": "{]}", "±": "$\\pm$", "−": "$-$", "–": "--", "—": "---",
  };
  const text = (cell) => cell.textContent.trim().replace(/\s+/g, " ");
  const escaped = (words) => [...words].map((character) => SPECIAL[character] ?? character).join("");
  const seen = (row) => [...row.cells].filter((cell) => !cell.hidden);

  function latex(table) {
    const [above, titles] = table.tHead.rows.length > 1 ? table.tHead.rows : [null, table.tHead.rows[0]];
    const line = (cells) => `${cells.map((cell) => escaped(text(cell))).join(" & ")} \\\\`;
    const lines = [`\\begin{tabular}{${seen(titles).map((cell) => (cell.classList.contains("numbers") ? "r" : "l")).join("")}}`, "\\toprule"];
    if (above) {
      let at = 1;
      const rules = [];
      const cells = seen(above).map((cell) => {
        const words = text(cell);
        if (words) rules.push(`\\cmidrule(lr){${at}-${at + cell.colSpan - 1}}`);
        at += cell.colSpan;
        return words ? `\\multicolumn{${cell.colSpan}}{c}{${escaped(words)}}` : "";
      });
      lines.push(`${cells.join(" & ")} \\\\`, rules.join(" "));
    }
    lines.push(line(seen(titles)));
    for (const part of table.tBodies) {
      const rows = [...part.rows].filter((row) => !row.hidden);
      if (rows.length) lines.push("\\midrule", ...rows.map((row) => line(seen(row))));
    }
    return [...lines, "\\bottomrule", "\\end{tabular}", ""].join("\n");
  }

  function csv(table) {
    const quoted = (words) => (/[",\n]/.test(words) ? `"${words.replaceAll('"', '""')}"` : words);
    const titles = seen(table.tHead.rows[table.tHead.rows.length - 1]).map((cell) =>
      [cell.dataset.problem, text(cell)].filter(Boolean).join(" "),
    );
    const rows = [...table.tBodies].flatMap((part) => [...part.rows]).filter((row) => !row.hidden);
    return [titles, ...rows.map((row) => seen(row).map(text))].map((row) => `${row.map(quoted).join(",")}\n`).join("");
  }

  async function copy(button) {
    const table = button.closest(".table").querySelector("table");
    const content = button.dataset.copy === "csv" ? csv(table) : latex(table);
    try {
      await navigator.clipboard.writeText(content);
    } catch {
      const area = Object.assign(document.createElement("textarea"), { value: content });
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
      button.focus();
    }
    const before = button.textContent;
    document.getElementById("copied").textContent = `Copied: ${text(table.caption)}, ${button.dataset.copy === "csv" ? "CSV" : "LaTeX"}`;
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = before), 1500);
  }

  // What the page listens to

  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("button");
    if (!button) return;
    if (button.dataset.copy) copy(button);
    if (button.name === "every" || button.name === "none") {
      for (const box of filters.querySelectorAll("[name=method]")) box.checked = button.name === "every";
      filter();
    }
  });
  filters.addEventListener("change", filter);
  filters.addEventListener("submit", (event) => event.preventDefault());
  for (const panel of document.querySelectorAll(".panel")) near.observe(panel);
  filter();
})();
