// The page: what it is about stands in it as JSON.

const layerMap = JSON.parse(document.getElementById("data").textContent);
const panel = document.getElementById("panel");
const grid = new LayerMap(document.getElementById("map"), layerMap, cell => showCell(panel, layerMap, cell));
const ways = colourings(layerMap);
let colouring = ways[0];
let profile = layerMap.profiles[0];

function paint() {
  grid.paint(colouring, profile);
  const swatches = node("span", { class: "swatches", "aria-hidden": "true" });
  for (let i = 0; i < STEPS; i++) swatches.append(node("span", { class: `heat-${i}` }));
  document.getElementById("key").replaceChildren(colouring.ends[0], swatches, colouring.ends[1], node("span", { class: "soft" }, `(${colouring.title})`));
  document.getElementById("profiles").hidden = !colouring.way || layerMap.profiles.length < 2;
}

radios(document.getElementById("colours"), "colour", ways.map(way => way.name), index => {
  colouring = ways[index];
  paint();
});
radios(document.getElementById("profiles"), "profile", layerMap.profiles, index => {
  profile = layerMap.profiles[index];
  paint();
});
paint();

/** When a cell is computed: the embedding, then layer by layer, then the result. */
const turn = cell => (cell.operation === "embed" ? -1 : cell.layer < 0 ? Infinity : cell.layer);

/** The first cell beyond its tolerance; stage by stage first, where a fault shows in its place. */
function firstFault() {
  for (const way of Object.keys(layerMap.ways)) {
    const faults = grid.buttons.filter(button => layerMap.profiles.some(name => worstOf(button.cell, name, way)?.within === false));
    if (faults.length) return faults.reduce((first, button) => (turn(button.cell) < turn(first.cell) ? button : first));
  }
  return null;
}

const seconds = button => button.cell.time?.seconds ?? 0;
grid.choose(firstFault() ?? grid.buttons.reduce((slowest, button) => (seconds(button) > seconds(slowest) ? button : slowest)));
