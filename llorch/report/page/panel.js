// The figures of one cell.

function timeRows(time) {
  const rows = [["in all", duration(time.seconds)], ["ran", `${time.n} times`]];
  if (time.n) rows.push(["each", duration(time.seconds / time.n)]);
  if (time.bytes) rows.push(["moved", `${figure(time.bytes / 1e6)} MB`]);
  if (time.gb_s != null) rows.push(["per second", `${figure(time.gb_s, 3)} GB`]);
  if (time.macs) rows.push(["multiply-adds", figure(time.macs)]);
  if (time.gmac_s != null) rows.push(["per second", `${figure(time.gmac_s, 3)} G multiply-adds`]);
  if (time.roofline != null) rows.push(["share of the roofline", percent(time.roofline)]);
  return rows;
}

function statisticsRows(found) {
  return [
    ["shape", found.shape.join(" × ")],
    ["least, most", `${figure(found.min)}, ${figure(found.max)}`],
    ["mean", figure(found.mean)],
    ["root mean square", figure(found.rms)],
    ["zeros", percent(found.zeros)],
    ["NaN, infinite", `${found.n_nan}, ${found.n_inf}`, found.n_nan + found.n_inf ? "bad" : ""],
  ];
}

function differenceRows(found) {
  const rows = [["verdict", found.within ? "within the tolerance" : "NOT within it", found.within ? "good" : "bad"]];
  rows.push(["checkpoint, pass", `${found.checkpoint}, ${found.pass}`]);
  rows.push(["tolerance", found.tolerance]);
  if (found.max_abs !== undefined) {
    rows.push(["largest difference", figure(found.max_abs, 3)], ["mean difference", figure(found.mean_abs, 3)]);
    rows.push(["NMSE", figure(found.nmse, 3)], ["at index", `[${found.worst_index.join(", ")}]`]);
    rows.push(["ours there", figure(found.ours, 9)], ["theirs there", figure(found.theirs, 9)]);
  }
  rows.push(["tolerance used up", percent(found.share)]);
  if (found.note) rows.push(["note", found.note]);
  return rows;
}

function showCell(panel, map, cell) {
  panel.replaceChildren(node("h3", {}, `${cell.operation}, ${layerName(cell.layer)}`));
  if (cell.time) panel.append(figuresTable("time", timeRows(cell.time)));
  for (const tensor of cell.tensors) {
    panel.append(node("h4", {}, tensor.name));
    if (tensor.statistics) panel.append(figuresTable("our values, prompt pass", statisticsRows(tensor.statistics)));
    for (const [profile, ways] of Object.entries(tensor.found)) {
      for (const [way, found] of Object.entries(ways)) {
        panel.append(figuresTable(`against llama.cpp, ${profile}, ${map.ways[way]}`, differenceRows(found)));
      }
    }
  }
  if (map.profiles.length && !cell.tensors.length) {
    panel.append(node("p", { class: "soft" }, "No tensor of this cell was compared."));
  }
}
