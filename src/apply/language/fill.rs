//! Texts with hidden bytes, filled by a model.

use crate::error::{Error, Result};
use crate::models::bert::{Bert, TextBatch};
use crate::models::config::BertConfig;
use crate::ops::Backend;
use crate::params::{Ctx, Params};
use crate::run::work_begins;

use crate::tensor::Ids;

/// A text with hidden bytes.
pub struct Marked {
    /// Bytes, and [`BertConfig::MASK`] in hidden places.
    pub symbols: Vec<u32>,
}

/// What a model says of a hidden byte while all are hidden.
#[derive(Clone, Debug, PartialEq)]
pub struct Blank {
    /// Place in the text, counted from 0.
    pub place: usize,
    /// The most probable bytes with their probabilities, falling.
    pub top: Vec<(u8, f64)>,
}

/// A text without hidden bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct FilledText {
    /// The text.
    pub bytes: Vec<u8>,
    /// Its hidden bytes.
    pub blanks: Vec<Blank>,
}

impl Marked {
    /// Hides a byte for each `mark` in `text`.
    pub fn parse(text: &str, mark: &str) -> Result<Self> {
        if mark.is_empty() || !text.contains(mark) {
            return Err(Error::config(format!(
                "no byte of the text is hidden: write {} for each, or say with --mark what stands for one",
                if mark.is_empty() { "_" } else { mark }
            )));
        }
        let mut symbols = Vec::new();
        for (i, part) in text.split(mark).enumerate() {
            symbols.extend((i > 0).then_some(BertConfig::MASK));
            symbols.extend(part.bytes().map(u32::from));
        }
        Ok(Self { symbols })
    }
}

/// Symbols as text, █ in hidden places; what is no UTF-8 becomes �.
pub fn readable(symbols: &[u32]) -> String {
    let parts = symbols.split(|&symbol| symbol == BertConfig::MASK);
    let bytes = |part: &[u32]| part.iter().map(|&symbol| symbol as u8).collect::<Vec<u8>>();
    let parts = parts.map(|part| String::from_utf8_lossy(&bytes(part)).into_owned());
    parts.collect::<Vec<_>>().join("█")
}

/// Fills a text byte by byte: each time the place whose most probable byte is the most probable of all, which the others
/// then see. A text that is shorter than the model's is seen by itself; a longer one is refused.
pub fn fill<B: Backend>(
    bk: &B,
    (model, w): (&Bert<B>, &Params<B>),
    text: &Marked,
    top: usize,
) -> Result<FilledText> {
    let (mut symbols, own) = (text.symbols.clone(), model.config.length());
    let length = symbols.len();
    if length > own {
        return Err(Error::config(format!(
            "the text has {length} bytes, the model sees {own} at once: give a part of it"
        )));
    }
    work_begins();
    let short = (length < own).then(|| model.shorter(bk, w, length));
    let (model, w) = short.as_ref().map_or((model, w), |(model, w)| (model, w));
    let (mut blanks, mut first) = (Vec::new(), true);
    loop {
        let hidden = |(_, symbol): &(usize, &u32)| **symbol == BertConfig::MASK;
        let places: Vec<usize> =
            symbols.iter().enumerate().filter(hidden).map(|(i, _)| i).collect();
        let count = places.len();
        if count == 0 {
            break;
        }
        let rows = Ids::from_vec(bk, places.iter().map(|&i| i as u32 + 1).collect(), &[count]);
        let batch =
            TextBatch { images: model.images(bk, symbols.clone(), length), rows, keep: None };
        let logits = model.logits(Ctx::new(bk, w), &batch).to_f64(bk);
        let said: Vec<Vec<(u8, f64)>> =
            logits.chunks_exact(BertConfig::BYTES).map(by_probability).collect();
        if std::mem::take(&mut first) {
            let blank = |(&place, said): (&usize, &Vec<(u8, f64)>)| Blank {
                place,
                top: said[..top.min(said.len())].to_vec(),
            };
            blanks = places.iter().zip(&said).map(blank).collect();
        }
        // Of equal ones the first.
        let surest = (0..count).rev().max_by(|&a, &b| said[a][0].1.total_cmp(&said[b][0].1));
        let surest = surest.expect("a hidden place");
        symbols[places[surest]] = u32::from(said[surest][0].0);
    }
    Ok(FilledText { bytes: symbols.iter().map(|&symbol| symbol as u8).collect(), blanks })
}

/// All bytes with their probabilities, falling; of equal ones the lowest first.
fn by_probability(logits: &[f64]) -> Vec<(u8, f64)> {
    let most = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = logits.iter().map(|x| (x - most).exp()).sum();
    let mut all: Vec<(u8, f64)> =
        (0..=u8::MAX).zip(logits).map(|(byte, x)| (byte, (x - most).exp() / sum)).collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1));
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Cpu;
    use crate::params::initial_values;

    #[test]
    fn marks_become_hidden_bytes() {
        let marked = Marked::parse("a[MASK]é[MASK][MASK]", "[MASK]").expect("marked");
        assert_eq!(marked.symbols, [97, 256, 0xc3, 0xa9, 256, 256]);
        assert_eq!(readable(&marked.symbols), "a█é██");
        for (text, mark) in [("a_b", "?"), ("a_b", "")] {
            let said = Marked::parse(text, mark).map(|_| ()).expect_err("no mark").to_string();
            assert!(said.contains("no byte of the text is hidden"), "{said}");
        }
    }

    #[test]
    fn what_is_seen_stays_and_every_place_is_filled() {
        let bk = Cpu::<f32>::new();
        let model = Bert::new(&bk, &BertConfig::test());
        let w = Params::from_host(&bk, &model.layout, &initial_values(&model.layout, 3));
        let of =
            |text: &str| fill(&bk, (&model, &w), &Marked::parse(text, "_").expect("marked"), 3);
        for text in ["a__d_f", "a_", "_"] {
            let filled = of(text).expect("filled");
            let marks: Vec<usize> = text.match_indices('_').map(|(i, _)| i).collect();
            assert_eq!(filled.blanks.iter().map(|b| b.place).collect::<Vec<_>>(), marks);
            let kept = text.bytes().zip(&filled.bytes).filter(|(of, _)| *of != b'_');
            assert!(text.len() == filled.bytes.len() && kept.clone().all(|(a, b)| a == *b));
            assert!(
                filled
                    .blanks
                    .iter()
                    .all(|b| b.top.len() == 3 && b.top.is_sorted_by(|a, b| a.1 >= b.1))
            );
        }
        let long = of("a______").expect_err("seven bytes").to_string();
        assert_eq!(long, "the text has 7 bytes, the model sees 6 at once: give a part of it");
    }

    #[test]
    fn probabilities_fall() {
        let mut logits = vec![0.0; 256];
        (logits[7], logits[200]) = (2.0, 2.0);
        let all = by_probability(&logits);
        assert_eq!((all[0].0, all[1].0, all[2].0), (7, 200, 0));
        let share = 2f64.exp() / (2.0 * 2f64.exp() + 254.0);
        assert!((all[0].1 - share).abs() < 1e-12);
        assert!((all.iter().map(|(_, p)| p).sum::<f64>() - 1.0).abs() < 1e-12);
    }
}
