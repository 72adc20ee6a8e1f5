//! The examples of every command's help, run on small sources and models, or, where they take minutes or
//! a GPU, only parsed.

use super::{BERT, ENCODER, SMALL_SEGMENTER, TOKENIZER, beit, folder, text};
use libtest_mimic::{Failed, Trial};
use std::path::Path;

/// A trial for each example, and one that says which commands have none.
pub fn trials() -> Vec<Trial> {
    let (mut examples, mut none) = (Vec::new(), Vec::new());
    collect("", &mut examples, &mut none);
    let runs = examples.iter().enumerate().map(|(n, line)| {
        let small = SmallExample::of(line, n);
        let kind = if small.complaint.is_some() { "parsed_only" } else { "runs" };
        Trial::test(format!("example/{kind}/{n}: {line}"), move || small.run())
    });
    let mut trials: Vec<_> = runs.collect();
    trials.push(Trial::test("example/every_command_has_one", move || {
        if none.is_empty() { Ok(()) } else { Err(format!("none: {none:?}").into()) }
    }));
    trials
}

/// The examples in the help of `command` and of its own commands; those without any to `none`.
fn collect(command: &str, examples: &mut Vec<String>, none: &mut Vec<String>) {
    let output = beit(Path::new("."), &format!("{command} --help")).env("COLUMNS", "100").output();
    let help = text(&output.expect("the program runs"));
    let own = help.lines().filter_map(|line| line.trim().strip_prefix("beit "));
    let own: Vec<String> = own.map(String::from).collect();
    let commands: Vec<&str> = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next())
        .filter(|name| !name.is_empty() && *name != "help")
        .collect();
    if own.is_empty() && !command.is_empty() {
        none.push(command.to_owned());
    }
    examples.extend(own);
    for name in commands {
        collect(format!("{command} {name}").trim(), examples, none);
    }
}

/// What stands for the names in an example that it reads from.
const INPUTS: &[(&str, &str)] = &[
    ("photos/", "synthetic:32"),
    ("photos/train", "synthetic:40"),
    ("photos/test", "synthetic:20"),
    ("photos/val", "synthetic:20"),
    ("other-photos/", "synthetic:20"),
    ("synthetic:2000", "synthetic:40"),
    ("synthetic:500", "synthetic:20"),
    ("runs/tokenizer", "tokenizer"),
    ("runs/beit", "beit"),
    ("runs/bert", "bert"),
    ("runs/classifier", "classifier"),
    ("runs/segmenter", "segmenter"),
    ("ADEChallengeData2016/", "synthetic:20"),
    ("beit-base-patch16-224-pt22k/", "exchange/hf_mim"),
    ("beit_base_patch16_224_pt22k.pth", "exchange/beit_unilm/model.pth"),
    ("dalle/", "exchange/dalle"),
    ("cat.jpg", "images/square.png"),
    ("base", "tiny"),
    ("attention", "relu"),
    ("cuda", "cuda:15"),
];

/// An example made small.
struct SmallExample {
    line: String,
    /// Where it is not to do its work: the mistake that keeps it from that, as it is named.
    complaint: Option<&'static str>,
}

impl SmallExample {
    fn of(example: &str, number: usize) -> Self {
        let mut words = example.split_whitespace().take_while(|word| *word != ">");
        let command = words.next().unwrap_or_default();
        let (mut line, mut last) = (command.to_owned(), "");
        for word in words {
            let end = Path::new(word).extension().map(|end| format!(".{}", end.display()));
            let input = INPUTS.iter().find(|(name, _)| *name == word).map(|(_, small)| *small);
            line += &match (last, input) {
                ("--out" | "--json", _) => format!(" example_{number}{}", end.unwrap_or_default()),
                ("--batch", _) => " 2".to_owned(),
                (_, Some(small)) => format!(" {small}"),
                (_, None) => format!(" {word}"),
            };
            last = word;
        }
        let options = |line: &'static str| line.split_once("--epochs").map_or("", |(_, rest)| rest);
        let complaint = match command {
            // Four minutes.
            "demo" => {
                line = line.replace(&format!("example_{number}"), "beit");
                Some("beit is not empty")
            }
            _ if line.contains("cuda:15") => Some("cuda"),
            _ if line.contains("--against") => Some("runs/report/report.json"),
            _ => None,
        };
        match command {
            "train-tokenizer" => line += &format!(" --epochs{}", options(TOKENIZER)),
            "pretrain" => line += &format!(" --epochs{}", options(ENCODER)),
            "bert" => {
                line +=
                    &format!(" --steps{}", BERT.split_once("--steps").map_or("", |(_, rest)| rest))
            }
            "probe" => line += " --epochs 2",
            "dino" | "mocov3" | "finetune" => line += " --steps 2 --batch 8",
            "segment-train" => line += SMALL_SEGMENTER,
            "ablate" => {
                if !line.contains("--rows") {
                    line += " --rows beit,no-pretraining --seeds 1";
                }
                line += " --steps 2 --finetune-steps 2 --tokenizer tokenizer --measure-set batch=8";
                line += &options(ENCODER).replace("--batch 16", "--set batch=16")[2..];
            }
            "gradcheck" if line == "gradcheck" => line += " relu",
            "bench" if line.contains("report") => line += " --quick",
            _ => {}
        }
        Self { line, complaint }
    }

    fn run(&self) -> Result<(), Failed> {
        let output = beit(folder(), &self.line).output()?;
        let (said, code) = (text(&output), output.status.code());
        let good = match self.complaint {
            None => code == Some(0),
            Some(complaint) => code == Some(1) && said.to_lowercase().contains(complaint),
        };
        if good { Ok(()) } else { Err(format!("{}: {code:?}, {said}", self.line).into()) }
    }
}
