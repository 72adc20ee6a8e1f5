//! `beit-check serve`, as other programs speak with it: right, wrong, and rude.

use beit_check::serve::serve;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};

type Numbers = Vec<(Vec<usize>, Vec<f64>)>;

/// A program that speaks the protocol.
struct Client {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Client {
    fn start() -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_beit-check"));
        command.arg("serve").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child, input, output: BufReader::new(output) }
    }

    fn send(&mut self, line: Value, numbers: &[f64]) {
        writeln!(self.input, "{line}").unwrap();
        let bytes: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
        self.input.write_all(&bytes).unwrap();
        self.input.flush().unwrap();
    }

    fn receive(&mut self) -> (Value, Numbers) {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        let line: Value = serde_json::from_str(&line).unwrap();
        let described = ["arrays", "upstream"].map(|key| line[key].as_array().cloned());
        let one = |described: Value| {
            let shape: Vec<usize> = serde_json::from_value(described[1].clone()).unwrap();
            let mut bytes = vec![0; 8 * shape.iter().product::<usize>()];
            self.output.read_exact(&mut bytes).unwrap();
            let numbers = bytes.chunks(8).map(|b| f64::from_le_bytes(b.try_into().unwrap()));
            (shape, numbers.collect())
        };
        let numbers = described.into_iter().flatten().flatten().map(one).collect();
        (line, numbers)
    }

    /// Answers for y = x² with this factor in the backward; the last line and the exit status.
    fn squares(mut self, factor: f64) -> (Value, i32) {
        loop {
            let (line, numbers) = self.receive();
            let x = numbers.first().cloned().unwrap_or_default();
            let (name, values): (_, Vec<f64>) = match line["ask"].as_str() {
                Some("forward") => ("y", x.1.iter().map(|x| x * x).collect()),
                Some("backward") => {
                    ("x", x.1.iter().zip(&numbers[1].1).map(|(x, u)| factor * x * u).collect())
                }
                _ => return (line, self.child.wait().unwrap().code().unwrap()),
            };
            self.send(json!({ "arrays": [[name, x.0]] }), &values);
        }
    }

    /// The client goes; what the server says of it.
    fn leave(self) -> Output {
        drop((self.input, self.output));
        self.child.wait_with_output().unwrap()
    }
}

fn start() -> Value {
    json!({ "check": "squares", "arrays": [["x", [2, 2]]] })
}

const X: [f64; 4] = [0.3, -1.7, 2.0, 0.1];

#[test]
fn a_right_and_a_wrong_backward() {
    for (factor, verdict, status) in [(2.0, "pass", 0), (2.0001, "fail", 1)] {
        let mut client = Client::start();
        client.send(start(), &X);
        let (last, code) = client.squares(factor);
        assert_eq!((last["verdict"].as_str(), code), (Some(verdict), status), "{last}");
        assert!(last["text"].as_str().unwrap().starts_with("squares: "), "{last}");
        assert_eq!(last["report"]["tensors"], json!(["x"]));
    }
}

/// Two outputs by name, of different shapes: x² and its sum. Both get their gradients; one that forgets
/// the second is wrong.
#[test]
fn several_outputs() {
    for (weight, verdict) in [(1.0, "pass"), (0.0, "fail")] {
        let mut client = Client::start();
        client.send(start(), &X);
        let last = loop {
            let (line, numbers) = client.receive();
            let x = numbers.first().cloned().unwrap_or_default().1;
            if line["ask"] == "forward" {
                let squares: Vec<f64> = x.iter().map(|x| x * x).collect();
                let all: Vec<f64> = squares.iter().copied().chain([squares.iter().sum()]).collect();
                client.send(json!({ "arrays": [["squares", [2, 2]], ["sum", []]] }), &all);
            } else if line["ask"] == "backward" {
                assert_eq!(line["upstream"], json!([["squares", [2, 2]], ["sum", []]]));
                let (up, sum) = (&numbers[1].1, weight * numbers[2].1[0]);
                let dx: Vec<f64> = x.iter().zip(up).map(|(x, u)| 2.0 * x * (u + sum)).collect();
                client.send(json!({ "arrays": [["x", [2, 2]]] }), &dx);
            } else {
                break line;
            }
        };
        assert_eq!(last["verdict"], verdict, "{last}");
        client.leave();
    }
}

/// Settings and constraints reach the check.
#[test]
fn settings_and_constraints() {
    let mut client = Client::start();
    let mut first = start();
    first["settings"] = json!({ "dense": 1, "samples": 2, "projections": 1, "blocks": 0 });
    first["constraints"] = json!({ "x": "positive" });
    client.send(first.clone(), &X.map(f64::abs));
    let (last, _) = client.squares(2.0);
    assert_eq!(last["report"]["comparisons"].as_array().unwrap().len(), 3, "{last}");
    let mut client = Client::start();
    client.send(first, &X);
    let (last, code) = client.squares(2.0);
    assert_eq!(code, 1);
    assert!(last["text"].as_str().unwrap().contains("x[0, 1] is -1.7"), "{last}");
}

#[test]
fn every_bit_arrives() {
    let mut client = Client::start();
    let x = [0.1 + 0.2, -0.0, 5e-324, f64::MAX];
    client.send(start(), &x);
    let (_, numbers) = client.receive();
    assert_eq!(numbers[0].1.iter().map(|x| x.to_bits()).collect::<Vec<_>>(), x.map(f64::to_bits));
    client.leave();
}

#[test]
fn a_client_that_goes_or_fails_ends_the_check() {
    let mut client = Client::start();
    client.send(start(), &X);
    client.receive();
    let output = client.leave();
    let said = String::from_utf8_lossy(&output.stderr).to_string();
    assert_eq!(output.status.code(), Some(2));
    assert!(said.contains("the client has gone; wanted was the answer to forward"), "{said}");

    let mut client = Client::start();
    client.send(start(), &X);
    client.receive();
    client.send(json!({ "error": "ValueError('no')" }), &[]);
    let (last, _) = client.receive();
    assert_eq!(last["error"], "the answer to forward is an error: ValueError('no')");
    let output = client.leave();
    let said = String::from_utf8_lossy(&output.stderr).to_string();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(said.trim(), "beit-check: the answer to forward is an error: ValueError('no')");
}

/// What is wrong with a message, and that the client is told the same.
#[test]
fn messages_that_are_not_understood() {
    let numbers: Vec<u8> = X.iter().flat_map(|x| x.to_le_bytes()).collect();
    let first = format!("{}\n", start());
    let with = |answer: &str| [first.as_bytes(), &numbers, answer.as_bytes()].concat();
    for (bytes, text) in [
        (Vec::new(), "the client has gone; wanted was the first message"),
        (b"hello\n".to_vec(), "the first message is not understood: expected value at line 1"),
        (b"{\"check\": \"a\"".to_vec(), "the first message has no end of line"),
        (b"{\"check\": \"a\"}\n".to_vec(), "missing field `arrays`"),
        (b"{\"check\": \"a\", \"arrays\": [], \"arays\": 1}\n".to_vec(), "unknown field `arays`"),
        (
            b"{\"check\": \"a\", \"arrays\": [], \"settings\": {\"step\": 1}}\n".to_vec(),
            "unknown field `step`",
        ),
        (
            b"{\"check\": \"a\", \"arrays\": [], \"constraints\": {\"x\": \"round\"}}\n".to_vec(),
            "unknown variant `round`",
        ),
        (vec![0xff, 0xfe, b'\n'], "the first message is not understood"),
        (with("")[..first.len() + 20].to_vec(), "array `x` ends after 20 of 32 bytes"),
        (
            b"{\"check\": \"a\", \"arrays\": [[\"x\", [9999999999, 9999999999]]]}\n".to_vec(),
            "array `x` is too large",
        ),
        (
            b"{\"check\": \"a\", \"arrays\": [[\"x\", [0]], [\"x\", [0]]]}\n".to_vec(),
            "two arrays `x`",
        ),
        (with("{}\n"), "the answer to forward has neither \"arrays\" nor \"error\""),
        (with("12\n"), "the answer to forward is not understood"),
        (with("{\"arrays\": [[\"y\", [1]]]}\n1234"), "array `y` ends after 4 of 8 bytes"),
    ] {
        let mut output = Vec::new();
        let error = serve(&bytes[..], &mut output).unwrap_err().to_string();
        assert!(error.contains(text), "{error:?} has no {text:?}");
        // Behind the question there are bytes of its arrays.
        let said = String::from_utf8_lossy(&output);
        let last = &said[said.find("{\"error").expect("the client is told")..];
        let last: Value = serde_json::from_str(last).unwrap();
        assert_eq!(last["error"], *error);
    }
}

/// Outputs that change their number at another point.
#[test]
fn outputs_that_change_their_number() {
    let mut client = Client::start();
    client.send(start(), &X);
    let mut asked = 0;
    let last = loop {
        let (line, _) = client.receive();
        if line.get("ask").is_none() {
            break line;
        }
        asked += 1;
        let n = if asked < 9 { 4 } else { 3 };
        let name = if line["ask"] == "forward" { "y" } else { "x" };
        let shape = if name == "y" { vec![n] } else { vec![2, 2] };
        client.send(
            json!({ "arrays": [[name, shape]] }),
            &[1.0; 4][..if name == "y" { n } else { 4 }],
        );
    };
    let output = client.leave();
    assert_ne!(output.status.code(), Some(0), "{last}");
    assert!(last.to_string().contains("outputs"), "{last}");
}

#[test]
fn other_arguments() {
    let run = |arguments: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_beit-check")).args(arguments).output().unwrap()
    };
    let (help, none) = (run(&["--help"]), run(&[]));
    assert!(help.status.success() && String::from_utf8_lossy(&help.stdout).contains("Exit status"));
    assert_eq!(none.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&none.stderr).contains("wanted is `serve`"));
    assert!(run(&["--version"]).status.success());
}

/// A Python with NumPy: `PYTHON`, else `python3`.
fn python() -> Option<String> {
    let program = std::env::var("PYTHON").unwrap_or_else(|_| "python3".into());
    let found = Command::new(&program).args(["-c", "import numpy"]).output();
    if found.is_ok_and(|found| found.status.success()) {
        return Some(program);
    }
    println!("skipped: {program} has no numpy (PYTHON names another)");
    None
}

/// The README's code, and what follows it.
fn run_python(program: &str, name: &str, after: &str) -> Output {
    let readme = include_str!("../README.md");
    let blocks = readme.split("```python\n").skip(1).map(|b| b.split("```").next().unwrap());
    let blocks: Vec<&str> = blocks.collect();
    assert_eq!((blocks.len(), blocks[0].lines().count()), (2, 15));
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&file, format!("{}\n{}\n{after}", blocks[0], blocks[1])).unwrap();
    let binary = PathBuf::from(env!("CARGO_BIN_EXE_beit-check"));
    let mut path = vec![binary.parent().unwrap().to_path_buf()];
    path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    let path = std::env::join_paths(path).unwrap();
    Command::new(program).arg(&file).env("PATH", path).output().unwrap()
}

#[test]
fn the_python_of_the_readme() {
    let Some(program) = python() else { return };
    let after = "
a = {'q': np.sin(np.arange(12.0)).reshape(4, 3), 'k': np.cos(np.arange(12.0)).reshape(3, 4).T}
def forward(a): return {'s': a['q'] @ a['k'].T, 'sum': a['q'].sum()}
def backward(a, up, f=1.0): return {'q': up['s'] @ a['k'] + up['sum'], 'k': f * up['s'].T @ a['q']}
status, last = check('scores', a, forward, backward)
assert status == 0, last
status, last = check('scores', a, forward, lambda a, up: backward(a, up, 1.0001))
assert status == 1 and 'k[' in last['text'], last
single = lambda factor: (
    lambda a: {'y': np.tanh(a['x'].astype('f4'))},
    lambda a, up: {'x': np.float32(factor) * up['y'].astype('f4') / np.cosh(a['x'].astype('f4')) ** 2})
for factor, code in [(1, 0), (1.01, 1)]:
    status, last = check('single', {'x': x}, *single(factor), settings={'precision': 'f32', 'coarsest': 1e-3})
    assert status == code, last
print('done')
";
    let output = run_python(&program, "right.py", after);
    let said = String::from_utf8_lossy(&output.stdout).to_string();
    let errors = String::from_utf8_lossy(&output.stderr).to_string();
    assert!(output.status.success() && said.ends_with("done\n"), "{said}{errors}");
    assert!(said.starts_with("softplus: pass"), "{said}");
}

#[test]
fn an_exception_in_python() {
    let Some(program) = python() else { return };
    let output = run_python(&program, "raises.py", "check('a', {'x': x}, lambda a: 1 / 0, None)\n");
    let errors = String::from_utf8_lossy(&output.stderr).to_string();
    assert!(!output.status.success());
    assert!(errors.contains("Traceback") && errors.contains("division by zero"), "{errors}");
    let said =
        "beit-check: the answer to forward is an error: ZeroDivisionError('division by zero')";
    assert!(errors.contains(said), "{errors}");
}
