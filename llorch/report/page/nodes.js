// Elements of the page; texts are only ever set as text.

function node(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

const layerName = layer => (layer < 0 ? "outside the layers" : `layer ${layer}`);

function figuresTable(caption, rows) {
  const table = node("table", {}, node("caption", {}, caption));
  const body = node("tbody");
  for (const [name, value, kind] of rows) {
    const cell = node("td", kind ? { class: kind } : {}, value);
    body.append(node("tr", {}, node("th", { scope: "row" }, name), cell));
  }
  table.append(body);
  return table;
}

function radios(fieldset, name, labels, choose) {
  labels.forEach((label, index) => {
    const input = node("input", { type: "radio", name, value: String(index) });
    input.checked = index === 0;
    input.addEventListener("change", () => choose(index));
    fieldset.append(node("label", {}, input, label));
  });
}
