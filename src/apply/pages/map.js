const about = json("about"), points = about.points, plot = $("plot"), [ph, pw] = about.picture;
const dark = matchMedia("(prefers-color-scheme:dark)");
const hues = ["#2a6fdb", "#d9541e", "#2e9e4f", "#a23bbd", "#c99a00", "#12a0b3", "#d6336c", "#7a5230", "#6f7682", "#84b81f"];
const shapes = ["circle", "square", "triangle", "diamond"];
const address = URL.createObjectURL(new Blob([bytes("pictures")], { type: "image/png" }));
// A mark of a class: ten colours in each of four shapes.
const mark = (ctx, label, x, y, r) => {
  const shape = label == null ? 0 : Math.floor(label / hues.length) % shapes.length;
  ctx.fillStyle = label == null ? "#6f7682" : hues[label % hues.length];
  ctx.beginPath();
  if (shapes[shape] == "circle") ctx.arc(x, y, r, 0, 7);
  else if (shapes[shape] == "square") ctx.rect(x - r * 0.9, y - r * 0.9, r * 1.8, r * 1.8);
  else {
    const corners = shapes[shape] == "triangle" ? [[0, -1.2], [1.1, 0.8], [-1.1, 0.8]] : [[0, -1.3], [1.3, 0], [0, 1.3], [-1.3, 0]];
    corners.forEach(([dx, dy], i) => ctx[i ? "lineTo" : "moveTo"](x + dx * r, y + dy * r));
    ctx.closePath();
  }
  ctx.fill();
};
let chosen = null, at = -1, places = [];
const order = points.map((_, i) => i).sort((a, b) => points[a][0] - points[b][0] || a - b);
const draw = () => {
  const width = plot.clientWidth, height = Math.round(Math.max(260, Math.min(width * 0.7, 620)));
  const ratio = devicePixelRatio || 1, ctx = plot.getContext("2d"), margin = 14;
  plot.style.height = height + "px";
  plot.width = width * ratio;
  plot.height = height * ratio;
  ctx.scale(ratio, ratio);
  const range = i => points.reduce(([a, b], p) => [Math.min(a, p[i]), Math.max(b, p[i])], [Infinity, -Infinity]);
  const [[x0, x1], [y0, y1]] = [range(0), range(1)];
  const scale = Math.min((width - 2 * margin) / (x1 - x0 || 1), (height - 2 * margin) / (y1 - y0 || 1));
  const place = ([x, y]) => [width / 2 + (x - (x0 + x1) / 2) * scale, height / 2 - (y - (y0 + y1) / 2) * scale];
  places = points.map(place);
  const [ox, oy] = place([0, 0]);
  ctx.strokeStyle = getComputedStyle(document.body).getPropertyValue("--line");
  ctx.beginPath();
  ctx.moveTo(ox, 0); ctx.lineTo(ox, height); ctx.moveTo(0, oy); ctx.lineTo(width, oy);
  ctx.stroke();
  const radius = points.length > 1000 ? 2.6 : 3.6;
  for (const front of [false, true]) {
    points.forEach((_, i) => {
      const own = chosen == null || about.labels[i] == chosen;
      if (own != front) return;
      ctx.globalAlpha = own ? 0.85 : 0.13;
      mark(ctx, about.labels[i], ...places[i], radius);
    });
  }
  ctx.globalAlpha = 1;
  if (at >= 0) {
    ctx.strokeStyle = dark.matches ? "#fff" : "#000";
    ctx.lineWidth = 2;
    ctx.beginPath();
    ctx.arc(...places[at], radius + 3, 0, 7);
    ctx.stroke();
  }
};
const show = i => {
  at = i;
  $("tip").hidden = i < 0;
  draw();
  if (i < 0) return;
  const zoom = 96 / Math.max(ph, pw), [x, y] = places[i], rows = Math.ceil(points.length / about.columns);
  Object.assign($("picture").style, {
    width: pw * zoom + "px", height: ph * zoom + "px", backgroundImage: `url(${address})`,
    backgroundSize: `${about.columns * pw * zoom}px ${rows * ph * zoom}px`,
    backgroundPosition: `${-(i % about.columns) * pw * zoom}px ${-Math.floor(i / about.columns) * ph * zoom}px`,
  });
  const label = about.labels[i];
  $("text").replaceChildren(
    ...(label == null ? [] : [element("strong", {}, about.classes[label]), element("br")]), about.names[i]);
  const tip = $("tip"), width = plot.clientWidth;
  tip.style.left = Math.max(0, Math.min(x + 12, width - tip.offsetWidth)) + "px";
  tip.style.top = (y > plot.clientHeight / 2 ? y - tip.offsetHeight - 12 : y + 12) + "px";
};
const nearest = (event, within) => {
  const box = plot.getBoundingClientRect(), x = event.clientX - box.left - plot.clientLeft, y = event.clientY - box.top - plot.clientTop;
  let best = -1, least = within * within;
  places.forEach(([px, py], i) => {
    if (chosen != null && about.labels[i] != chosen) return;
    const d = (px - x) ** 2 + (py - y) ** 2;
    if (d <= least) { least = d; best = i; }
  });
  return best;
};
plot.onpointermove = event => {
  if (event.pointerType == "touch") return;
  const i = nearest(event, 16);
  if (i != at) show(i);
};
plot.onpointerleave = event => { if (event.pointerType != "touch") show(-1); };
plot.onclick = event => show(nearest(event, 32));
plot.onkeydown = event => {
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  if (event.key == "Escape") show(-1);
  if (!step) return;
  event.preventDefault();
  const own = order.filter(i => chosen == null || about.labels[i] == chosen);
  const now = own.indexOf(at);
  show(own[now < 0 ? 0 : Math.max(0, Math.min(own.length - 1, now + step))]);
};
const counts = about.classes.map((_, c) => about.labels.filter(label => label == c).length);
about.classes.forEach((name, c) => {
  if (!counts[c]) return;
  const sign = element("canvas", { width: 28, height: 28 });
  mark(sign.getContext("2d"), c, 14, 14, 10);
  const button = element("button", { type: "button" }, sign, `${name} (${counts[c]})`);
  button.setAttribute("aria-pressed", false);
  button.onclick = () => {
    chosen = chosen == c ? null : c;
    for (const other of $("legend").children) other.setAttribute("aria-pressed", chosen != null && other == button);
    show(-1);
  };
  $("legend").append(button);
});
const share = i => percent(about.shares[i] || 0);
$("axis").textContent = `Horizontal: first axis, ${share(0)} of the variance. Vertical: second axis, ${share(1)}.`;
plot.setAttribute("aria-label", `${points.length} images on two principal axes; the arrow keys go through them from left to right`);
addEventListener("resize", draw);
dark.addEventListener("change", draw);
draw();
