//! Case 16, `bert/*`: which bytes are hidden, and what is asked of them.

use crate::fixture::Fixture;
use beit::data::text::{HideDraw, Piece};
use libtest_mimic::{Failed, Trial};
use std::path::Path;

const CASE: &str = "16_baselines";
/// The fixture's label of a place that is not asked for.
const NONE: f64 = -100.0;

/// One trial.
pub fn trials(dir: &Path) -> Vec<Trial> {
    let dir = dir.to_path_buf();
    vec![Trial::test(format!("{CASE}::bert"), move || masking(&dir))]
}

fn masking(dir: &Path) -> Result<(), Failed> {
    let fx = Fixture::open(dir, CASE)?;
    let [pieces, length] = fx.shape("bert/in/bytes")[..] else { return Err("2 axes".into()) };
    let of = |name: &str| fx.f64(&format!("bert/in/{name}"));
    let (bytes, random) = (of("bytes"), of("random_byte"));
    let (select, kind) = (of("u_select"), of("u_kind"));
    let (mut shown, mut labels) = (Vec::new(), vec![NONE; bytes.len()]);
    for index in 0..pieces {
        let start = index * length;
        let own = bytes[start..][..length].iter().map(|&byte| byte as u8).collect();
        let draws = (start..start + length).map(|i| HideDraw {
            chosen: select[i],
            kind: kind[i],
            byte: random[i] as u8,
        });
        let hidden = Piece { bytes: own, index }.hide(draws);
        shown.extend(hidden.shown.iter().map(|&symbol| f64::from(symbol)));
        for (&place, answer) in hidden.chosen.iter().zip(hidden.answers()) {
            labels[start + place as usize] = answer.into();
        }
    }
    if shown != fx.f64("bert/out/input") {
        return Err("other symbols are shown".into());
    }
    if labels != fx.f64("bert/out/labels") {
        return Err("other places are asked for".into());
    }
    let asked = labels.iter().filter(|&&label| label != NONE).count();
    if asked < 10 { Err(format!("only {asked} places are asked for").into()) } else { Ok(()) }
}
