const about = json("about"), [gh, gw] = about.grid, patches = gh * gw, maps = about.heads + 1;
const values = bytes("values"), kept = bytes("kept"), keptBytes = Math.ceil(patches / 8);
const scales = new DataView(bytes("scales").buffer);
// Row of a block's map as seen from a patch.
const rowOf = (block, map, patch) => {
  const row = (block * maps + map) * patches + patch, at = row * patches;
  return {
    values: values.subarray(at, at + patches),
    scale: scales.getFloat32(8 * row, true),
    toClass: scales.getFloat32(8 * row + 4, true),
    keeps: i => kept[row * keptBytes + (i >> 3)] >> (i & 7) & 1,
  };
};
const stops = [[13, 20, 80], [95, 25, 130], [190, 50, 90], [245, 130, 40], [250, 240, 110]];
const colours = Array.from({ length: 256 }, (_, v) => {
  const at = v / 255 * 4, i = Math.min(3, Math.floor(at));
  return stops[i].map((s, c) => Math.round(s + (stops[i + 1][c] - s) * (at - i)));
});
const name = map => map < about.heads ? "head " + map : "mean";
const state = { patch: about.start[0] * gw + about.start[1], held: false, block: about.layers.length - 1, map: about.heads };

const image = new Image();
const cell = Math.max(8, Math.ceil(480 / Math.max(gh, gw))), big = $("big");
big.width = gw * cell;
big.height = gh * cell;

// Edges between patches inside the outline and others.
const outline = (ctx, row, cell) => {
  ctx.beginPath();
  for (let i = 0; i < patches; i++) {
    if (!row.keeps(i)) continue;
    const x = i % gw, y = i / gw | 0;
    const edge = (out, x1, y1, x2, y2) => {
      if (out) { ctx.moveTo(x1 * cell, y1 * cell); ctx.lineTo(x2 * cell, y2 * cell); }
    };
    edge(y == 0 || !row.keeps(i - gw), x, y, x + 1, y);
    edge(y == gh - 1 || !row.keeps(i + gw), x, y + 1, x + 1, y + 1);
    edge(x == 0 || !row.keeps(i - 1), x, y, x, y + 1);
    edge(x == gw - 1 || !row.keeps(i + 1), x + 1, y, x + 1, y + 1);
  }
  for (const [colour, width] of [["#000", 4], ["#fff", 2]]) {
    ctx.strokeStyle = colour;
    ctx.lineWidth = width;
    ctx.stroke();
  }
};
const paint = (ctx, row, cell, alpha) => {
  const least = Math.min(...row.values), span = Math.max(1, 255 - least);
  ctx.globalAlpha = alpha;
  for (let i = 0; i < patches; i++) {
    const [r, g, b] = colours[Math.round((row.values[i] - least) * 255 / span)];
    ctx.fillStyle = `rgb(${r},${g},${b})`;
    ctx.fillRect(i % gw * cell, (i / gw | 0) * cell, cell, cell);
  }
  ctx.globalAlpha = 1;
};
const frame = (ctx, patch, cell, width) => {
  const x = patch % gw * cell, y = (patch / gw | 0) * cell;
  for (const [colour, wide] of [["#fff", width + 2], ["#e01010", width]]) {
    ctx.strokeStyle = colour;
    ctx.lineWidth = wide;
    ctx.strokeRect(x + 1, y + 1, cell - 2, cell - 2);
  }
};

const small = [];
const shown = () => $("layer").value == "all" ? about.layers.map((_, b) => b) : [state.block];
// The small maps of the blocks that are chosen.
const lay = () => {
  small.length = 0;
  $("maps").replaceChildren(...shown().flatMap(block => {
    const buttons = Array.from({ length: maps }, (_, map) => {
      const canvas = element("canvas"), side = Math.max(2, Math.ceil(96 / Math.max(gh, gw)));
      canvas.width = gw * side;
      canvas.height = gh * side;
      const button = element("button", { type: "button" }, canvas, name(map));
      button.onclick = () => { state.block = block; state.map = map; $("map").value = map; draw(); };
      small.push({ block, map, canvas, side, button });
      return button;
    });
    return [element("h3", {}, "Block " + about.layers[block]), element("div", { className: "row" }, ...buttons)];
  }));
};
const draw = () => {
  const row = rowOf(state.block, state.map, state.patch), ctx = big.getContext("2d");
  ctx.imageSmoothingEnabled = false;
  ctx.drawImage(image, 0, 0, big.width, big.height);
  if ($("cover").checked) paint(ctx, row, cell, 0.6);
  ctx.strokeStyle = "rgba(128,128,128,.55)";
  ctx.lineWidth = 1;
  ctx.beginPath();
  for (let x = 1; x < gw; x++) { ctx.moveTo(x * cell, 0); ctx.lineTo(x * cell, big.height); }
  for (let y = 1; y < gh; y++) { ctx.moveTo(0, y * cell); ctx.lineTo(big.width, y * cell); }
  ctx.stroke();
  if ($("outline").checked) outline(ctx, row, cell);
  frame(ctx, state.patch, cell, 3);
  for (const { block, map, canvas, side, button } of small) {
    const own = rowOf(block, map, state.patch), ctx = canvas.getContext("2d");
    paint(ctx, own, side, 1);
    if ($("outline").checked && side > 5) outline(ctx, own, side);
    if (side > 5) frame(ctx, state.patch, side, 1);
    button.setAttribute("aria-pressed", block == state.block && map == state.map);
  }
  const place = i => `row ${i / gw | 0}, column ${i % gw}`, most = row.values.indexOf(255);
  const outlined = row.values.reduce((n, _, i) => n + row.keeps(i), 0);
  const least = Math.min(...row.values) * row.scale;
  $("status").textContent = `${state.held ? "Held" : "Patch"}: ${place(state.patch)}. Block ${about.layers[state.block]}, ` +
    `${name(state.map)}: ${percent(least)} to ${percent(255 * row.scale)}, most at ${most < 0 ? "no patch" : place(most)}; ` +
    `${percent(row.toClass)} to the class token; ${outlined} patches outlined.`;
  big.setAttribute("aria-label", `The image, attention from patch ${place(state.patch)}`);
};
let waiting = false;
const soon = () => {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => { waiting = false; draw(); });
};

about.layers.forEach((layer, b) => $("layer").append(element("option", { value: b }, layer)));
$("layer").append(element("option", { value: "all" }, "all"));
for (let map = maps - 1; map >= 0; map--) {
  const text = map < about.heads ? name(map) : "mean over heads";
  $("map").append(element("option", { value: map }, text));
}
$("layer").value = state.block;
$("map").value = state.map;
$("layer").onchange = () => {
  if ($("layer").value != "all") state.block = +$("layer").value;
  lay();
  draw();
};
$("map").onchange = () => { state.map = +$("map").value; draw(); };
$("outline").onchange = $("cover").onchange = draw;
const under = event => {
  const box = big.getBoundingClientRect();
  const at = (x, all) => Math.max(0, Math.min(all - 1, Math.floor(x * all)));
  return at((event.clientY - box.top) / box.height, gh) * gw + at((event.clientX - box.left) / box.width, gw);
};
big.onpointermove = event => {
  if (state.held || event.pointerType == "touch") return;
  state.patch = under(event);
  soon();
};
big.onclick = event => {
  const patch = under(event);
  state.held = !(state.held && patch == state.patch);
  state.patch = patch;
  draw();
};
big.onkeydown = event => {
  const [dy, dx] = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key] || [0, 0];
  if (event.key == "Escape") state.held = false;
  else if (!dy && !dx) return;
  else state.held = true;
  event.preventDefault();
  const y = (state.patch / gw | 0) + dy, x = state.patch % gw + dx;
  if (y >= 0 && y < gh && x >= 0 && x < gw) state.patch = y * gw + x;
  draw();
};
lay();
image.onload = draw;
image.src = png("picture");
