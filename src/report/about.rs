//! What a page says about its making.

/// Version of this program and the commit that it was built from, as in `0.1.0 (3395a41c01f2)`.
pub const VERSION: &str = env!("BEIT_VERSION");

/// Unreadable images that a page names.
const NAMED: usize = 50;

/// How what a page shows came about.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct About {
    /// The command line.
    pub command: String,
    /// The program.
    pub version: String,
    /// What computed it.
    pub device: String,
    /// Where its images come from.
    pub data: String,
    /// How many there were, and what for.
    pub images: String,
    /// Why images could not be read.
    pub unreadable: Vec<String>,
    /// Optimizer steps, where there are any.
    pub steps: Option<u64>,
    /// Wall-clock seconds of the process that finished it.
    pub seconds: f64,
    /// All settings, as in `config.toml`.
    pub settings: String,
}

impl About {
    /// What this process knows by itself: program and command line.
    pub fn this_process() -> Self {
        let words = std::env::args_os().map(|word| quoted(&word.to_string_lossy()));
        let command = words.collect::<Vec<_>>().join(" ");
        Self { command, version: VERSION.into(), ..Self::default() }
    }

    /// Names and values of what is known.
    pub(super) fn rows(&self) -> Vec<[String; 2]> {
        let mut rows = vec![
            ("command", self.command.clone()),
            ("version", self.version.clone()),
            ("device", self.device.clone()),
            ("data", self.data.clone()),
            ("images", self.images.clone()),
        ];
        rows.retain(|(_, value)| !value.is_empty());
        if !self.unreadable.is_empty() {
            rows.push(("unreadable images, left out", self.unreadable.len().to_string()));
        }
        rows.extend(self.steps.map(|steps| ("optimizer steps", steps.to_string())));
        rows.push(("time", time(self.seconds)));
        rows.into_iter().map(|(name, value)| [name.to_owned(), value]).collect()
    }

    /// Why images could not be read, as many as there is room for.
    pub(super) fn named(&self) -> Vec<String> {
        let mut named: Vec<_> = self.unreadable.iter().take(NAMED).cloned().collect();
        if self.unreadable.len() > NAMED {
            named.push(format!("and {} more", self.unreadable.len() - NAMED));
        }
        named
    }
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./:=,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// Seconds in words.
fn time(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::page::Page;

    #[test]
    fn a_page_says_how_it_came_about() {
        let about = About {
            command: "beit pretrain".into(),
            version: VERSION.into(),
            device: "the CPU in f32".into(),
            data: "photos/".into(),
            images: "40".into(),
            unreadable: (0..60).map(|i| format!("a/{i}.jpg: <cut>")).collect(),
            steps: Some(12),
            seconds: 75.2,
            settings: "lr = 0.001\n".into(),
        };
        let html = Page::new("t").about(&about).html();
        for want in [
            "<td>command</td><td>beit pretrain</td>",
            VERSION,
            "the CPU in f32",
            "<td>photos/</td>",
            "<td>40</td>",
            "<td>unreadable images, left out</td><td>60</td>",
            "<li>a/49.jpg: &lt;cut&gt;<li>and 10 more",
            "<td>optimizer steps</td><td>12</td>",
            "1 min 15 s",
            "<details><summary>All settings</summary><pre><code>lr = 0.001</code>",
        ] {
            assert!(html.contains(want), "no {want} in {html}");
        }
        assert!(!html.contains("a/50.jpg"));
        assert!(!Page::new("t").about(&About::default()).html().contains("unreadable"));
    }

    #[test]
    fn words_and_times_can_be_read() {
        let words = ["a-b=c/d.e:f", "", "a b", "it's"].map(quoted);
        assert_eq!(words, ["a-b=c/d.e:f", "''", "'a b'", "'it'\\''s'"]);
        assert_eq!([3.04, 59.94, 3725.0].map(time), ["3.0 s", "1 min 0 s", "1 h 2 min"]);
    }
}
