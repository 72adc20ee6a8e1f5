const about = json("about"), total = about.counts.reduce((a, b) => a + b, 0);
const sheets = {};
// A tile of a sheet as the ground of an element.
const tile = (made, sheet, n, size) => {
  const { address, rows } = sheets[sheet], columns = about.columns;
  made.classList.add("tile");
  Object.assign(made.style, {
    width: size + "px", height: size + "px", backgroundImage: `url(${address})`,
    backgroundSize: `${columns * size}px ${rows * size}px`,
    backgroundPosition: `${-(n % columns) * size}px ${-Math.floor(n / columns) * size}px`,
  });
  return made;
};
const rank = [];
about.order.forEach((code, r) => rank[code] = r);
const used = about.order.filter(code => about.counts[code]), unused = about.order.filter(code => !about.counts[code]);
const buttons = [];
let chosen = -1;
const says = code => `code ${code}, ${about.counts[code]} times`;
const choose = code => {
  if (!(code in about.counts)) return;
  if (chosen >= 0) buttons[chosen].setAttribute("aria-pressed", false);
  chosen = code;
  buttons[code].setAttribute("aria-pressed", true);
  $("number").value = code;
  const count = about.counts[code];
  const use = count ? `${count} times, ${percent(count / total)}, place ${rank[code] + 1} of ${used.length}` : "never used";
  const examples = about.examples.flatMap((c, n) => c == code ? [n] : []);
  const found = examples.map(n => {
    const made = tile(element("span", { role: "img", ariaLabel: "a patch of the data" }), "found", n, 64);
    made.classList.add("example");
    return element("figure", {}, made);
  });
  const near = about.neighbours[code].map(([other, distance]) => {
    const made = tile(element("button", { type: "button", ariaLabel: says(other) }), "tiles", other, 44);
    made.onclick = () => choose(other);
    return element("figure", {}, made, element("figcaption", {}, `${other}`, element("br"), distance.toPrecision(3)));
  });
  $("chosen").replaceChildren(
    element("div", { className: "facts" }, tile(element("span"), "tiles", code, 72),
      element("p", { id: "facts" }, element("strong", {}, "Code " + code), element("br"), use)),
    element("div", { className: "strip", id: "examples" }, ...(found.length ? found : ["No patch of the data has it."])),
    element("div", { className: "strip", id: "near" }, "Nearest:", ...near));
};
const lay = () => {
  const size = +$("zoom").value;
  for (const [place, codes] of [["used", used], ["unused", unused]]) {
    $(place).replaceChildren(...codes.map(code => {
      const made = element("button", { type: "button", title: says(code), ariaLabel: says(code) });
      made.setAttribute("aria-pressed", code == chosen);
      made.onclick = () => choose(code);
      buttons[code] = made;
      return tile(made, "tiles", code, size);
    }));
  }
};
$("rest").hidden = !unused.length;
$("rest").querySelector("summary").textContent = `${unused.length} codes that never occur`;
$("numbers").textContent = unused.join(", ");
$("number").max = about.counts.length - 1;
$("number").onchange = () => choose(+$("number").value);
$("zoom").onchange = lay;
const blob = id => {
  const address = URL.createObjectURL(new Blob([bytes(id)], { type: "image/png" }));
  return new Promise(done => {
    const image = new Image();
    image.onload = () => { sheets[id] = { address, rows: image.naturalHeight / (image.naturalWidth / about.columns) }; done(); };
    image.src = address;
  });
};
Promise.all([blob("tiles"), blob("found")]).then(() => { lay(); choose(about.order[0]); });
