//! What the settings are: of every preset as a table, of one command line as its `config.toml`.

use crate::config::{
    BertRun, DinoRun, FinetuneRun, MocoRun, Preset, PretrainRun, ProbeRun, RunConfig, SegmentRun,
    TokenizerRun, VaeRun, document, to_table,
};
use crate::error::Result;

/// `beit presets`
pub fn presets() -> Result<()> {
    say!("{}\n{}", table::<TokenizerRun>()?, table::<VaeRun>()?);
    say!("{}\n{}", table::<PretrainRun>()?, table::<DinoRun>()?);
    say!("{}\n{}", table::<MocoRun>()?, table::<BertRun>()?);
    say!("{}\n{}", table::<FinetuneRun>()?, table::<SegmentRun>()?);
    say!("{}", table::<ProbeRun>()?);
    say!("\"\" is given on the command line; --print-config explains each setting");
    Ok(())
}

/// Prints `config.toml` of these settings.
pub fn print_config<C: RunConfig>(config: &C) -> Result<()> {
    say!("{}", document(config)?.trim_end());
    Ok(())
}

/// A line for each setting, a column for each preset.
fn table<C: RunConfig>() -> Result<String> {
    let values = |name: &&str| to_table(&C::preset(name.parse::<Preset>()?));
    let presets = Preset::NAMES.iter().map(values).collect::<Result<Vec<_>>>()?;
    let mut rows = vec![line_of(C::KIND, Preset::NAMES.iter().map(|name| (*name).to_owned()))];
    // The preset's own name heads its column.
    for key in C::KEYS.iter().filter(|key| key.name != "preset") {
        let shown = presets.iter().map(|preset| match preset.get(key.name) {
            Some(value) => value.to_string(),
            None => "not set".to_owned(),
        });
        rows.push(line_of(key.name, shown));
    }
    let width = |i: usize| rows.iter().map(|row| row[i].chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..=presets.len()).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    Ok(text)
}

fn line_of(name: &str, values: impl Iterator<Item = String>) -> Vec<String> {
    std::iter::once(name.to_owned()).chain(values).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The cells of a setting's line.
    fn cells<C: RunConfig>(name: &str) -> Vec<String> {
        let text = table::<C>().expect("a table");
        let line = text.lines().find(|line| line.split_whitespace().next() == Some(name));
        line.unwrap_or_else(|| panic!("no {name} in {text}"))
            .split("  ")
            .map(str::trim)
            .map(String::from)
            .filter(|cell| !cell.is_empty())
            .collect()
    }

    #[test]
    fn every_setting_of_every_preset_is_in_the_table() {
        for key in TokenizerRun::KEYS.iter().filter(|key| key.name != "preset") {
            assert_eq!(cells::<TokenizerRun>(key.name).len(), 5, "{}", key.name);
        }
        for key in PretrainRun::KEYS.iter().filter(|key| key.name != "preset") {
            assert_eq!(cells::<PretrainRun>(key.name).len(), 5, "{}", key.name);
        }
        for key in FinetuneRun::KEYS.iter().filter(|key| key.name != "preset") {
            assert_eq!(cells::<FinetuneRun>(key.name).len(), 5, "{}", key.name);
        }
        for key in SegmentRun::KEYS.iter().filter(|key| key.name != "preset") {
            assert_eq!(cells::<SegmentRun>(key.name).len(), 5, "{}", key.name);
        }
        for key in ProbeRun::KEYS.iter().filter(|key| key.name != "preset") {
            assert_eq!(cells::<ProbeRun>(key.name).len(), 5, "{}", key.name);
        }
        assert_eq!(cells::<PretrainRun>("width"), ["width", "128", "384", "768", "1024"]);
        assert_eq!(
            cells::<PretrainRun>("pretrain"),
            ["pretrain", "tiny", "small", "base", "large"]
        );
        assert_eq!(cells::<ProbeRun>("epochs"), ["epochs", "1000", "1000", "100", "100"]);
    }
}
