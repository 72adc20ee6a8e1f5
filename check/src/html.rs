//! The frame of a page: one HTML file that needs no script, font or network, follows the reader's choice of
//! light or dark, and fits a phone: what is wider scrolls by itself.

use crate::escape::escape;
use crate::plot;

/// What did not pass stands out by weight, a bar at its side and colour: not by colour alone.
const STYLE: &str = "\
:root{--bad:#a8201a;--bad-back:#fdeae8;--open:#744a00;--open-back:#fff3d6}
@media(prefers-color-scheme:dark){:root{--bad:#ff9d92;--bad-back:#48130f;--open:#f3c552;--open-back:#382a06}}
body{margin:0 auto;max-width:72rem;padding:1rem;background:var(--back);color:var(--text);font:16px/1.5 system-ui,sans-serif}
h1{font-size:1.6rem}h2{font-size:1.25rem;margin:2.2rem 0 .5rem}h3{font-size:1rem;margin:1.4rem 0 .4rem}h1,h2,h3{overflow-wrap:anywhere}
p,ul{max-width:46rem}a{color:var(--a)}nav ul{columns:14rem;padding-left:1.2rem}
table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums}
th,td{padding:.25rem .9rem .25rem 0;text-align:left;vertical-align:top;border-bottom:1px solid var(--line)}
th{color:var(--dim);font-weight:500;vertical-align:bottom}.n{text-align:right}td.n{white-space:nowrap}
.fail td{background:var(--bad-back)}.open td{background:var(--open-back)}
.fail td:first-child,.open td:first-child{padding-left:.5rem;font-weight:800}
.fail td:first-child{color:var(--bad);border-left:.4rem solid var(--bad)}
.open td:first-child{color:var(--open);border-left:.4rem double var(--open)}
strong.fail{color:var(--bad)}strong.open{color:var(--open)}
del{color:var(--dim)}.note{display:block;color:var(--b);white-space:normal}
summary{cursor:pointer;color:var(--a);margin:.8rem 0}
pre{overflow-x:auto;padding:.6rem;border:1px solid var(--line);border-radius:.3rem}
img{max-width:100%;height:auto;image-rendering:pixelated}
.plot{max-width:100%;height:auto}.wide .plot{min-width:36rem}
.gallery{display:flex;flex-wrap:wrap;gap:.8rem;margin:.6rem 0 1.6rem}figure{margin:0;max-width:100%}
figcaption{font-size:.85rem;color:var(--dim);width:0;min-width:100%}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(18rem,1fr));gap:1rem}
.scroll{overflow-x:auto}
";

/// A whole page around a body, which is markup; the title is text.
pub fn document(title: &str, body: &str) -> String {
    let (title, palette) = (escape(title), plot::STYLE);
    format!(
        "<!doctype html>\n<html lang=en><head><meta charset=utf-8><meta name=viewport \
         content=\"width=device-width,initial-scale=1\"><meta name=color-scheme \
         content=\"light dark\"><title>{title}</title><style>{palette}{STYLE}</style></head>\n\
         <body><h1>{title}</h1>\n{body}</body></html>\n"
    )
}
