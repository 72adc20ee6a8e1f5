const $ = id => document.getElementById(id);
const json = id => JSON.parse($(id).textContent);
const bytes = id => Uint8Array.from(atob($(id).textContent), c => c.charCodeAt(0));
const png = id => "data:image/png;base64," + $(id).textContent;
const percent = x => (100 * x).toPrecision(x < 0.1 ? 2 : 3) + " %";
const element = (tag, about = {}, ...inside) => {
  const made = Object.assign(document.createElement(tag), about);
  made.append(...inside);
  return made;
};
