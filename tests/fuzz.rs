//! More than two thousand files, changed by lot, of every kind that the program reads: none may panic, end the
//! process, take more than two seconds or more memory than it should.
//!
//! Files are read by this program started again, below a limit of its address space, a hundred by each
//! process. It says which file it begins, so that its end has a name. A file at fault is kept, and its path
//! is in the message. The lot is another each time; it is printed, and `BEIT_SEED` repeats it;
//! `BEIT_FUZZ=N` changes N files of each kind.

mod fixtures;
#[path = "fuzz/kinds.rs"]
mod kinds;
#[path = "fuzz/mutate.rs"]
mod mutate;
#[path = "fuzz/seeds.rs"]
mod seeds;

use beit::rng::{Philox, Purpose};
use kinds::{FuzzKind, KINDS, PLANTED};
use libtest_mimic::{Arguments, Failed, Trial};
use peak_alloc::PeakAlloc;
use seeds::made_run;
use std::env::var;
use std::fs::File;
use std::io::Write;
use std::panic::catch_unwind;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tempfile::TempDir;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

const INPUTS: usize = 2_400;
/// Files that one process reads.
const PER_PROCESS: usize = 100;
/// Address space of a process in kB; pictures may take a quarter of it, and what else is read nothing
/// near it.
const ADDRESSES: usize = 1 << 20;
/// Seconds of the processor, not of the clock, that a file may take; unoptimised code has ten times as much.
const SECONDS: f64 = if cfg!(debug_assertions) { 20.0 } else { 2.0 };
/// Seconds of the clock after which a process that is still at one file counts as hanging.
const PATIENCE: Duration = Duration::from_secs(120);

/// Set for a process that reads: the kind of file, the first one and the one behind the last.
const CHILD: &str = "BEIT_TEST_FUZZ";
/// Set for it, too: a finished run.
const RUN: &str = "BEIT_TEST_FUZZ_RUN";
const SEED: &str = "BEIT_SEED";

fn main() {
    if let Ok(task) = var(CHILD) {
        return read_files(&task);
    }
    assert_eq!(KINDS.iter().map(|kind| kind.inputs).sum::<usize>(), INPUTS);
    let arguments = Arguments::from_args();
    if !limits_memory() {
        eprintln!("fuzz: skipped, as this system has no limit of the address space (ulimit -v)");
        return;
    }
    let seed = match var(SEED) {
        Ok(seed) => seed.parse().expect("BEIT_SEED is a whole number"),
        Err(_) => SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64,
    };
    eprintln!("{SEED}={seed}");
    let run = made_run();
    let trial = |kind: &'static FuzzKind| {
        let run = run.path().to_path_buf();
        Trial::test(kind.name, move || fuzz(kind, seed, &run))
    };
    let mut trials: Vec<Trial> = KINDS.iter().map(trial).collect();
    let made = run.path().to_path_buf();
    trials.push(Trial::test("planted_faults_are_found", move || planted_faults(&made)));
    let outcome = libtest_mimic::run(&arguments, trials);
    drop(run);
    outcome.exit();
}

fn limits_memory() -> bool {
    let limit = || Command::new("sh").args(["-c", "ulimit -v 1000000"]).status();
    cfg!(target_os = "linux") && limit().is_ok_and(|status| status.success())
}

/// All files of a kind, and what is wrong with any of them.
fn fuzz(kind: &FuzzKind, seed: u64, run: &Path) -> Result<(), Failed> {
    let inputs = var("BEIT_FUZZ")
        .map_or(kind.inputs, |inputs| inputs.parse().expect("BEIT_FUZZ is a whole number"));
    let scratch = tempfile::Builder::new().prefix("beit-fuzz-").tempdir().unwrap();
    let Found { accepted, seconds, megabytes, faults } =
        read_by_processes(kind, inputs, seed, run, &scratch)?;
    eprintln!(
        "{}: {inputs} files, {accepted} of them could be read; at most {seconds:.2} s and {megabytes} MB",
        kind.name
    );
    if faults.is_empty() {
        return Ok(());
    }
    let kept = scratch.keep();
    let line = |(index, fault): &(usize, String)| {
        format!("\n{}: {fault}", kept.join(index.to_string()).display())
    };
    Err(format!("{SEED}={seed}{}", faults.iter().map(line).collect::<String>()).into())
}

fn read_by_processes(
    kind: &FuzzKind,
    inputs: usize,
    seed: u64,
    run: &Path,
    scratch: &TempDir,
) -> Result<Found, Failed> {
    let (mut found, mut first) = (Found::default(), 0);
    while first < inputs {
        let end = (first + PER_PROCESS).min(inputs);
        let said = scratch.path().join(format!("said-{first}"));
        let errors = scratch.path().join(format!("stderr-{first}"));
        let mut child = Command::new("sh");
        child.args(["-c", &format!("ulimit -v {ADDRESSES} && exec \"$0\"")]);
        child.arg(std::env::current_exe().unwrap()).current_dir(scratch.path());
        child.env(CHILD, format!("{} {first} {end} {}", kind.name, said.display()));
        child.env(RUN, run).env(SEED, seed.to_string());
        // glibc keeps addresses for threads that have ended.
        child.env("RUST_BACKTRACE", "0").env("MALLOC_ARENA_MAX", "1");
        child.stdout(Stdio::null()).stderr(File::create(&errors).unwrap());
        let ended = wait(child.spawn().unwrap(), &said);
        let unfinished = found.add(&std::fs::read_to_string(&said).unwrap_or_default());
        let errors = std::fs::read_to_string(&errors).unwrap_or_default();
        let how = ended.map_or("hangs".to_owned(), |status| format!("ends: {status}"));
        first = match unfinished {
            None if ended.is_some_and(|status| status.success()) => end,
            None => return Err(format!("between two files the process {how}: {errors}").into()),
            Some(at) => {
                let last = errors.lines().last().unwrap_or_default();
                found.faults.push((at, format!("the process {how}: {last}")));
                at + 1
            }
        };
    }
    Ok(found)
}

/// Faults of all sorts are found, each with its file, and the files behind it are still read.
fn planted_faults(run: &Path) -> Result<(), Failed> {
    let scratch = TempDir::new().unwrap();
    let found = read_by_processes(&PLANTED, PLANTED.inputs, 0, run, &scratch)?;
    let wanted = [
        "panics: [\"panicked at tests/fuzz/kinds.rs",
        "a thread panics: [\"panicked at tests/fuzz/kinds.rs",
        "takes 100 MB, more than 64",
        "the process ends: signal: 6",
        "the process ends: signal: 6",
    ];
    let at = |(index, _): &(usize, String)| index % 2 == 1 && *index < 2 * wanted.len();
    let right = found.faults.iter().zip(wanted).all(|((_, fault), want)| fault.starts_with(want));
    if right
        && found.faults.len() == wanted.len()
        && found.faults.iter().all(at)
        && found.accepted == 6
    {
        return Ok(());
    }
    Err(format!("{} read; {:#?}", found.accepted, found.faults).into())
}

/// What processes said about their files.
#[derive(Default)]
struct Found {
    accepted: usize,
    seconds: f64,
    megabytes: usize,
    faults: Vec<(usize, String)>,
}

impl Found {
    /// Adds the lines of a process; the file that it had begun when it ended.
    fn add(&mut self, said: &str) -> Option<usize> {
        let mut begun = None;
        for line in said.lines() {
            let mut words = line.splitn(3, ' ');
            let (what, index) = (words.next().unwrap(), words.next().unwrap().parse().unwrap());
            let rest = words.next().unwrap_or_default();
            begun = None;
            match what {
                "begins" => begun = Some(index),
                "fault" => self.faults.push((index, rest.to_owned())),
                _ => {
                    let figures: Vec<f64> =
                        rest.split(' ').map(|figure| figure.parse().unwrap()).collect();
                    self.accepted += figures[0] as usize;
                    self.seconds = self.seconds.max(figures[1]);
                    self.megabytes = self.megabytes.max(figures[2] as usize);
                }
            }
        }
        begun
    }
}

/// How the process ended; nothing where it had to be, because it went on with one file for too long.
fn wait(mut child: Child, said: &Path) -> Option<ExitStatus> {
    let (mut length, mut since) = (0, Instant::now());
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(10));
        let now = std::fs::metadata(said).map_or(0, |about| about.len());
        if now > length {
            (length, since) = (now, Instant::now());
        }
        if since.elapsed() > PATIENCE {
            child.kill().unwrap();
            child.wait().unwrap();
            return None;
        }
    }
}

/// Texts of panics of this process, in whichever thread.
static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// The process that reads: changes one file after the other and reads it.
fn read_files(task: &str) {
    std::panic::set_hook(Box::new(|info| {
        let text = info.to_string().replace('\n', " ");
        eprintln!("{text}");
        PANICS.lock().unwrap_or_else(PoisonError::into_inner).push(text);
    }));
    let [name, first, end, said] = task.splitn(4, ' ').collect::<Vec<_>>()[..] else {
        panic!("{task}")
    };
    let number = KINDS.iter().position(|kind| kind.name == name);
    let kind = number.map_or(&PLANTED, |number| &KINDS[number]);
    let seeds = (kind.seeds)(Path::new(&var(RUN).unwrap()));
    let mut said = File::create(said).unwrap();
    let here = std::env::current_dir().unwrap();
    for seed in seeds.iter().filter(|_| first == "0") {
        let folder = here.join("seed");
        seed.write(&folder, &seed.content);
        assert!((kind.read)(&folder, 2), "a file that is right cannot be read");
        std::fs::remove_dir_all(folder).unwrap();
    }
    for index in first.parse::<usize>().unwrap()..end.parse().unwrap() {
        let seed = var(SEED).unwrap().parse().unwrap();
        let mut random =
            Philox::new(seed, Purpose::Check, number.unwrap_or(0) as u32, index as u32);
        let [seed, other] = [0; 2].map(|_| &seeds[random.integer(seeds.len() - 1)]);
        let folder = here.join(index.to_string());
        seed.write(&folder, &(kind.mutate)(&seed.content, &other.content, &mut random));
        writeln!(said, "begins {index}").unwrap();
        match read(kind, &folder, index) {
            Ok(figures) => {
                std::fs::remove_dir_all(&folder).unwrap();
                writeln!(said, "done {index} {figures}").unwrap();
            }
            Err(fault) => writeln!(said, "fault {index} {fault}").unwrap(),
        }
    }
}

/// Reads one: whether it could be, seconds, megabytes; or what is wrong with how it was.
fn read(kind: &FuzzKind, folder: &Path, index: usize) -> Result<String, String> {
    let (start, before) = (processor_seconds(), ALLOCATOR.current_usage());
    ALLOCATOR.reset_peak_usage();
    let accepted = catch_unwind(|| (kind.read)(folder, index));
    let taken = ALLOCATOR.peak_usage().saturating_sub(before) >> 20;
    let seconds = processor_seconds() - start;
    let panics = std::mem::take(&mut *PANICS.lock().unwrap_or_else(PoisonError::into_inner));
    let accepted = accepted.map_err(|_| format!("panics: {panics:?}"))?;
    // A decoder that panics costs its image, as any other damage does.
    if !kind.decodes && !panics.is_empty() {
        return Err(format!("a thread panics: {panics:?}"));
    }
    if seconds > SECONDS {
        return Err(format!("takes {seconds:.1} s of the processor"));
    }
    let most = (kind.megabytes)(index);
    if taken > most {
        return Err(format!("takes {taken} MB, more than {most}"));
    }
    Ok(format!("{} {seconds:.2} {taken}", usize::from(accepted)))
}

/// Seconds that the processor has given to this process, with threads that have ended.
fn processor_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = text.rsplit(')').next().unwrap().split_whitespace().collect();
    // utime and stime, fields 14 and 15 of all, in hundredths (proc(5)).
    [11, 12].iter().map(|&i| fields[i].parse::<f64>().unwrap() * 0.01).sum()
}
