"use strict";
// Tables: a click on a column's name sorts, a second click the other way round; long tables have a field that filters.
const collator = new Intl.Collator("en", { numeric: true });
const number = (text) => (text !== "" && !Number.isNaN(Number(text)) ? Number(text) : null);

function compare(a, b) {
  if (a === "" || b === "") return (a === "") - (b === ""); // empty ones last
  const [x, y] = [number(a), number(b)];
  return x !== null && y !== null ? x - y : collator.compare(a, b);
}

for (const table of document.querySelectorAll("table.sort")) {
  const body = table.tBodies[0];
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const cells = [...body.rows].map((row) => row.cells[column]);
    const numbers = cells.every((cell) => cell.textContent === "" || number(cell.textContent) !== null);
    for (const cell of cells) {
      if (numbers) cell.className = "number";
      else if (cell.textContent.length > 40) cell.className = "long";
    }
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const text = (row) => row.cells[column].textContent;
      const rows = [...body.rows].sort((a, b) => {
        const order = compare(text(a), text(b));
        return down && text(a) !== "" && text(b) !== "" ? -order : order;
      });
      body.append(...rows);
    });
  });
  if (body.rows.length > 5) {
    const label = document.createElement("label");
    const field = document.createElement("input");
    label.className = "filter";
    label.append("Rows with ", field);
    field.addEventListener("input", () => {
      const words = field.value.toLowerCase().split(/\s+/);
      for (const row of body.rows) {
        const text = [...row.cells].map((cell) => cell.textContent.toLowerCase()).join("\n");
        row.hidden = !words.every((word) => text.includes(word));
      }
    });
    table.parentElement.before(label);
  }
}

addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((part) => (part.open = true)));

// Images: all of them are filtered at once, a page of them is shown.
const PAGE = 60;
const source = document.getElementById("data");
if (source) unpacked(source.textContent).then(browse);

async function unpacked(text) {
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).json();
}

function browse({ images, sheets }) {
  document.getElementById("unread").hidden = true;
  const form = document.getElementById("filters");
  const field = (name) => form.elements[name];
  const [cards, found, pages] = ["cards", "found", "pages"].map((id) => document.getElementById(id));
  const unique = (values) => [...new Set(values)];
  const options = (names, all) => [...(all ? [new Option(all, "")] : []), ...names.map((name) => new Option(name))];
  const runs = images.tasks.flatMap((task) => task.runs);
  field("architecture").replaceChildren(...options(unique(runs.map((run) => run.architecture))));
  field("approach").replaceChildren(...options(unique(runs.map((run) => run.approach)), "any"));
  let hits = []; // [task, number of the image]
  let first = 0;

  function filter() {
    const start = performance.now();
    const wanted = Object.fromEntries(new FormData(form));
    const tasks = wanted.task === "" ? images.tasks : [images.tasks[wanted.task]];
    hits = tasks.flatMap((task) => matching(task, wanted));
    if (wanted.order) {
      const sign = wanted.order === "up" ? 1 : -1;
      hits = hits.map((hit) => [sign * sureness(hit, wanted), hit]).sort((a, b) => a[0] - b[0]).map((pair) => pair[1]);
    }
    first = 0;
    show();
    found.dataset.ms = (performance.now() - start).toFixed(1);
  }

  const asked = (task, wanted) =>
    task.runs.filter(
      (run) => run.architecture === wanted.architecture && (!wanted.approach || run.approach === wanted.approach),
    );

  function matching(task, wanted) {
    const those = asked(task, wanted);
    const all = asked(task, { ...wanted, approach: "" });
    const cell = wanted.cell ? task.cells.indexOf(wanted.cell) : null;
    const [label, answered] = [wanted.label, wanted.answered].map((text) => (text === "" ? null : Number(text)));
    const tests = {
      "": () => true,
      wrong: (i) => those.some((run) => run.answer[i] >= 0 && run.answer[i] !== task.label[i]),
      right: (i) => those.length > 0 && those.every((run) => run.answer[i] === task.label[i]),
      disagree: (i) => unique(all.map((run) => run.answer[i]).filter((answer) => answer >= 0)).length > 1,
    };
    const result = [];
    for (let i = 0; i < task.files.length; i++) {
      if (cell !== null && (cell < 0 || task.cell[i] !== cell)) continue;
      if (label !== null && task.label[i] !== label) continue;
      if (answered !== null && !those.some((run) => run.answer[i] === answered)) continue;
      if (tests[wanted.answers](i)) result.push([task, i]);
    }
    return result;
  }

  const sureness = ([task, i], wanted) =>
    asked(task, wanted).reduce((least, run) => (run.answer[i] < 0 ? least : Math.min(least, run.percent[i])), 101);

  function show() {
    const wanted = Object.fromEntries(new FormData(form));
    const total = images.tasks.reduce((sum, task) => sum + task.files.length, 0);
    found.textContent = `${hits.length} of ${total} images`;
    cards.replaceChildren(...hits.slice(first, first + PAGE).map((hit) => card(hit, wanted.architecture)));
    pages.hidden = hits.length <= PAGE;
    document.getElementById("page").textContent = `${first + 1} to ${Math.min(first + PAGE, hits.length)}`;
    document.getElementById("back").disabled = first === 0;
    document.getElementById("on").disabled = first + PAGE >= hits.length;
  }

  function element(name, className, text = "") {
    const made = document.createElement(name);
    made.className = className;
    made.textContent = text;
    return made;
  }

  function card([task, i], architecture) {
    const item = document.createElement("li");
    const text = element("div", "text");
    const label = images.classes[task.label[i]];
    if (sheets && task.name in sheets.tasks) item.append(picture(task, i, label));
    text.append(element("strong", "", `Class ${label}`));
    for (const run of task.runs) {
      if (run.architecture !== architecture || run.answer[i] < 0) continue;
      const right = run.answer[i] === task.label[i];
      const words = `${run.approach}: ${images.classes[run.answer[i]]}, ${run.percent[i]} %`;
      text.append(element("div", right ? "" : "wrong", right ? `✓ ${words}` : `✗ ${words}`));
    }
    const cell = task.cell[i] < 0 ? "" : `Cell ${task.cells[task.cell[i]]}, `;
    text.append(element("div", "", `${cell}fold ${task.fold[i]}`), element("div", "name", task.files[i]));
    item.append(text);
    return item;
  }

  function picture(task, i, label) {
    const { side, columns, rows } = sheets;
    const place = i % (columns * rows);
    const sheet = Math.floor(i / (columns * rows));
    const shown = element("div", "picture");
    const zoom = 70 / side; // the frame takes two of the 72 pixels
    shown.setAttribute("role", "img");
    shown.setAttribute("aria-label", `Chromosome of class ${label}`);
    shown.style.backgroundImage = `url("thumbnails/${task.name}_${sheet}.jpg")`;
    shown.style.backgroundSize = `${columns * side * zoom}px auto`;
    shown.style.backgroundPosition = `${-(place % columns) * 70}px ${-Math.floor(place / columns) * 70}px`;
    return shown;
  }

  function turn(by) {
    first += by;
    show();
    cards.querySelector("li")?.scrollIntoView({ block: "nearest" });
  }

  function cells() {
    const chosen = field("task").value;
    const names = (chosen === "" ? images.tasks : [images.tasks[chosen]]).flatMap((task) => task.cells);
    document.getElementById("cells").replaceChildren(...unique(names).map((name) => new Option("", name)));
  }

  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", (event) => (event.target.name === "task" && cells(), filter()));
  form.addEventListener("reset", () => setTimeout(() => (cells(), filter())));
  document.getElementById("back").addEventListener("click", () => turn(-PAGE));
  document.getElementById("on").addEventListener("click", () => turn(PAGE));
  form.hidden = false;
  cells();
  filter();
}
