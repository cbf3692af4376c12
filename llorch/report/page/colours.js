// What a cell is coloured by: a value of it, its place on a scale from 0 to 1, and a short text.

const STEPS = 10;

/** The result of a cell that decides in one way: one that is not within its tolerance, else what used up most of it. */
function worstOf(cell, profile, way) {
  let worst = null;
  for (const tensor of cell.tensors) {
    const found = tensor.found[profile]?.[way];
    if (!found) continue;
    if (!worst || found.within < worst.within || (found.within === worst.within && found.share > worst.share)) worst = found;
  }
  return worst;
}

/** Where a value stands between two others on a logarithmic scale. */
function onLogScale(value, low, high) {
  if (!(value > 0)) return 0;
  if (high <= low) return 0.5;
  return Math.min(1, Math.max(0, Math.log(value / low) / Math.log(high / low)));
}

function byTime(cells) {
  const times = cells.filter(cell => cell.time?.seconds > 0).map(cell => cell.time.seconds);
  const low = Math.min(...times), high = Math.max(...times);
  return {
    name: "time",
    ends: [duration(low), duration(high)],
    title: "time of all steps together, logarithmic",
    at: cell => cell.time && { place: onLogScale(cell.time.seconds, low, high), text: duration(cell.time.seconds) },
  };
}

function byRoofline() {
  return {
    name: "share of the roofline",
    ends: ["0 %", "100 %"],
    title: "least possible time over measured time",
    at: cell => (cell.time?.roofline == null ? null : { place: Math.min(1, cell.time.roofline), text: percent(cell.time.roofline) }),
  };
}

function byDifference(name, way, low) {
  return {
    name,
    way,
    ends: ["0", "all of it"],
    title: `how much of the tolerance is used up, logarithmic from ${low.toExponential(0)}; ✕ is beyond it`,
    at: (cell, profile) => {
      const found = worstOf(cell, profile, way);
      if (!found) return null;
      const value = way === "local" ? found.max_abs : found.nmse;
      const text = value === undefined ? (found.within ? "holds" : "fails") : figure(value, 2);
      return found.within ? { place: onLogScale(found.share, low, 1), text } : { isFault: true, place: 1, text: `✕ ${text}` };
    },
  };
}

/** The ways to colour this map. */
function colourings(map) {
  const found = [];
  if (map.cells.some(cell => cell.time?.seconds > 0)) found.push(byTime(map.cells));
  if (map.cells.some(cell => cell.time?.roofline != null)) found.push(byRoofline());
  if (map.profiles.length) {
    found.push(byDifference("divergence, stage by stage", "local", 1e-3));
    found.push(byDifference("divergence, end to end", "end_to_end", 1e-6));
  }
  return found;
}

const heat = shown => (shown ? (shown.isFault ? "heat-fault" : `heat-${Math.min(STEPS - 1, Math.floor(shown.place * STEPS))}`) : "heat-none");
