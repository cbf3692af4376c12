// The map as a grid of buttons: one of them is a tab stop, arrow keys lead to the others.

class LayerMap {
  constructor(table, map, onChosen) {
    this.map = map;
    this.onChosen = onChosen;
    this.rows = [];
    const head = node("tr", { role: "row" }, node("th", { scope: "col", role: "columnheader" }, "layer"));
    for (const operation of map.operations) head.append(node("th", { scope: "col", role: "columnheader" }, ...breakable(operation)));
    const body = node("tbody", { role: "rowgroup" });
    const cells = new Map(map.cells.map(cell => [`${cell.layer} ${cell.operation}`, cell]));
    for (const layer of map.layers) body.append(this.row(layer, cells));
    table.append(node("thead", { role: "rowgroup" }, head), body);
    table.addEventListener("keydown", event => this.onKey(event));
  }

  row(layer, cells) {
    const row = node("tr", { role: "row" }, node("th", { scope: "row", role: "rowheader" }, layer < 0 ? "outside" : String(layer)));
    const buttons = this.map.operations.map(operation => {
      const cell = cells.get(`${layer} ${operation}`);
      const place = node("td", { role: "gridcell" });
      row.append(place);
      if (!cell) return null;
      const button = node("button", { type: "button", tabindex: "-1", "aria-pressed": "false" });
      button.addEventListener("click", () => this.choose(button));
      button.cell = cell;
      place.append(button);
      return button;
    });
    this.rows.push(buttons);
    return row;
  }

  get buttons() {
    return this.rows.flat().filter(Boolean);
  }

  /** Colour every cell. */
  paint(colouring, profile) {
    for (const button of this.buttons) {
      const shown = colouring.at(button.cell, profile);
      button.className = heat(shown);
      button.textContent = shown ? shown.text : "–";
      const what = shown ? shown.text : "nothing";
      button.setAttribute("aria-label", `${button.cell.operation}, ${layerName(button.cell.layer)}: ${what}`);
    }
  }

  choose(button) {
    for (const other of this.buttons) {
      other.setAttribute("aria-pressed", String(other === button));
      other.tabIndex = other === button ? 0 : -1;
    }
    this.onChosen(button.cell);
  }

  onKey(event) {
    const r = this.rows.findIndex(row => row.includes(event.target));
    if (r < 0) return;
    const c = this.rows[r].indexOf(event.target);
    const target = {
      ArrowLeft: () => this.rows[r].slice(0, c).findLast(Boolean),
      ArrowRight: () => this.rows[r].slice(c + 1).find(Boolean),
      ArrowUp: () => this.rows.slice(0, r).findLast(row => row[c])?.[c],
      ArrowDown: () => this.rows.slice(r + 1).find(row => row[c])?.[c],
      Home: () => this.rows[r].find(Boolean),
      End: () => this.rows[r].findLast(Boolean),
    }[event.key];
    if (!target) return;
    event.preventDefault();
    const button = target();
    if (!button) return;
    this.choose(button);
    button.focus();
  }
}

/** A name with places where a line may break. */
function breakable(name) {
  return name.split("_").flatMap((part, i) => (i ? ["_", node("wbr"), part] : [part]));
}
