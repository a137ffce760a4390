"use strict";
(() => {
  const data = JSON.parse(document.getElementById("report-data").textContent);
  const phone = window.matchMedia("(max-width: 40rem)");
  // Of a finger that scrolls the page no plot may make a zoom.
  const touch = window.matchMedia("(pointer: coarse)");
  const options = { responsive: true, displayModeBar: touch.matches ? false : "hover", displaylogo: false, modeBarButtonsToRemove: ["lasso2d", "select2d"] };
  const widthOfCharacter = 6.5;
  const widthOfPaper = 690;

  // plotly reads markup and, between dollars, formulas.
  function escaped(text) {
    return text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;").replace(/\$/g, "&#36;");
  }

  // Below the plot, because names are long; as many rows as they need there.
  function rowsOfLegend(traces, width) {
    const names = traces.filter((trace) => trace.showlegend).map((trace) => trace.name.length);
    const columns = Math.max(1, Math.floor(width / (Math.max(1, ...names) * widthOfCharacter + 45)));
    return Math.ceil(names.length / columns);
  }

  function fitted(figure, width) {
    const layout = structuredClone(figure.layout);
    const small = phone.matches;
    layout.legend.maxheight = 10000;
    layout.font = { size: small ? 10 : 12 };
    layout.height += 20 * rowsOfLegend(figure.data, width);
    layout.dragmode = touch.matches ? false : "zoom";
    if (small) {
      layout.margin = { l: 40, r: 8, t: 8, b: 40 };
      if (layout.yaxis.ticktext) {
        layout.yaxis.ticktext = layout.yaxis.ticktext.map(shortened);
        layout.yaxis.tickfont = { size: 8 };
      }
    }
    return layout;
  }

  // Hovering names the problem in full.
  function shortened(text) {
    return text.split("<br>").map((line) => (line.length > 22 ? line.slice(0, 21).replace(/&\w*$/, "") + "…" : line)).join("<br>");
  }

  function draw(place) {
    const figure = data.figures[place.dataset.figure];
    for (const trace of figure.data) {
      if (trace.customdata) trace.text = trace.customdata.map((entry) => data.hover[entry]);
    }
    const drawn = Plotly.newPlot(place, figure.data, fitted(figure, place.clientWidth), options);
    drawn.then(() => {
      place.dataset.drawn = "yes";
      place.on("plotly_click", (event) => {
        const entry = event.points[0].customdata;
        if (Number.isInteger(entry)) distribution(entry);
      });
    });
    return drawn;
  }

  function distribution(entry) {
    const place = document.getElementById("distribution-plot");
    if (!place) return; // no record of this report has samples
    const known = data.quantiles[entry];
    document.getElementById("distribution-name").textContent = data.names[entry];
    for (const row of document.querySelectorAll("tr[data-entry]")) {
      row.classList.toggle("chosen", row.dataset.entry === String(entry));
    }
    if (!known) {
      Plotly.purge(place);
      place.textContent = "This record has no samples.";
      return;
    }
    if (!place.classList.contains("js-plotly-plot")) place.textContent = "";
    const times = known.steps.map((step) => known.median * (1 + step / data.resolution));
    const last = times.length - 1;
    // Of few samples each is a step up; of many the quantiles lie evenly between the extremes.
    const shares = times.map((_, index) => (known.exact ? (index + 1) / times.length : index / last));
    const trace = { type: "scatter", mode: "lines", x: times, y: shares, line: { color: "#0072B2", shape: known.exact ? "hv" : "linear" },
      hovertemplate: "%{y:.0%} of the samples take at most %{x:.4s}s<extra></extra>" };
    const shapes = [];
    if (known.interval) {
      shapes.push({ type: "rect", x0: known.interval[0], x1: known.interval[1], y0: 0, y1: 1, fillcolor: "rgba(213,94,0,0.3)", line: { width: 0 } });
    }
    shapes.push({ type: "line", x0: known.median, x1: known.median, y0: 0, y1: 1, line: { color: "#D55E00", width: 1, dash: "dot" } });
    const grid = { gridcolor: "rgba(128,128,128,0.25)", zeroline: false, automargin: true };
    const layout = { height: 320, margin: { l: 50, r: 15, t: 10, b: 45 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      dragmode: touch.matches ? false : "zoom", shapes,
      xaxis: { title: { text: "time" }, ticksuffix: "s", exponentformat: "SI", minexponent: 0, type: known.long ? "log" : "linear", ...grid },
      yaxis: { title: { text: "share of the samples" }, tickformat: ".0%", range: [0, 1.02], ...grid } };
    Plotly.react(place, [trace], layout, options);
  }

  function sortable(table) {
    const body = table.tBodies[0];
    const collator = new Intl.Collator("en", { numeric: true });
    function sort(heading) {
      const column = heading.cellIndex;
      const descending = heading.getAttribute("aria-sort") === "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
      const numeric = heading.classList.contains("number");
      const rows = Array.from(body.rows, (row) => [valueOf(row.cells[column]), row]);
      // What is unknown stays at the end, whatever the direction.
      rows.sort(([a], [b]) => {
        if (a === "" || b === "") return (a === "") - (b === "");
        const order = numeric ? a - b : collator.compare(a, b);
        return descending ? -order : order;
      });
      body.append(...rows.map(([, row]) => row));
    }
    table.tHead.addEventListener("click", (event) => sort(event.target));
    table.tHead.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      sort(event.target);
    });
  }

  function valueOf(cell) {
    return cell.dataset.v ?? cell.textContent;
  }

  function filterable(table, tools) {
    const rows = Array.from(table.tBodies[0].rows);
    const texts = rows.map((row) => row.textContent.toLowerCase());
    const search = tools.querySelector("input");
    const choices = Array.from(tools.querySelectorAll("select"));
    const count = tools.querySelector("output");
    function apply() {
      const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      rows.forEach((row, index) => {
        const fits = words.every((word) => texts[index].includes(word)) &&
          choices.every((choice) => !choice.value || row.cells[choice.dataset.column].textContent === choice.value);
        row.hidden = !fits;
        shown += fits;
      });
      count.textContent = `${shown} of ${rows.length}`;
    }
    let waiting;
    search.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(apply, 80); });
    for (const choice of choices) {
      const column = choice.dataset.column;
      const values = new Set(rows.map((row) => row.cells[column].textContent));
      for (const value of Array.from(values).sort()) choice.append(new Option(value, value));
      choice.addEventListener("change", apply);
    }
    tools.querySelector("button").addEventListener("click", () => save(table));
    apply();
  }

  function save(table) {
    const lines = [Array.from(table.tHead.rows[0].cells, (cell) => cell.dataset.name)];
    for (const row of table.tBodies[0].rows) if (!row.hidden) lines.push(Array.from(row.cells, valueOf));
    const text = lines.map((line) => line.map(quoted).join(",") + "\r\n").join("");
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob(["\ufeff", text], { type: "text/csv" }));
    link.download = `${table.id}.csv`;
    link.click();
    URL.revokeObjectURL(link.href);
  }

  // A spreadsheet would calculate what begins like a formula: an apostrophe before it makes it a text.
  function quoted(value) {
    const number = value !== "" && Number.isFinite(Number(value));
    const text = !number && /^[\s]*[=+\-@\t\r]/.test(value) ? `'${value}` : value;
    return `"${text.replace(/"/g, '""')}"`;
  }

  data.hover = data.names.map((name) => escaped(name).replaceAll(" | ", "<br>"));
  for (const table of document.querySelectorAll("table.sortable")) sortable(table);
  for (const tools of document.querySelectorAll(".tools[data-table]")) {
    filterable(document.getElementById(tools.dataset.table), tools);
  }
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-entry]");
    if (!button) return;
    distribution(Number(button.dataset.entry));
    document.getElementById("distribution")?.scrollIntoView();
  });
  // Plots are as wide as the window was; on paper they must not be cut.
  window.addEventListener("beforeprint", () => {
    for (const plot of document.querySelectorAll(".plot")) plot.style.zoom = Math.min(1, widthOfPaper / plot.clientWidth);
  });
  window.addEventListener("afterprint", () => {
    for (const plot of document.querySelectorAll(".plot")) plot.style.zoom = "";
  });
  const places = Array.from(document.querySelectorAll(".plot[data-figure]"));
  // One after the other, so that the page answers in between; all, because a printed page shows all.
  (async () => {
    for (const place of places) {
      await draw(place);
      await new Promise((resolve) => setTimeout(resolve));
    }
    if (data.first !== null) distribution(data.first);
    document.documentElement.dataset.drawn = "yes";
  })();
})();
