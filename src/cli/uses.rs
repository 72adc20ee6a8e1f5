//! `beit predict`, `embed`, `tokenize`: images shown to a finished model.

use crate::apply::embed::{self as arrays, ArrayTask, WrittenArray, block_of};
use crate::apply::frozen::Tokenizer;
use crate::apply::opened::{OpenedClassifier, OpenedEncoder};
use crate::apply::predict::{PredictTask, predict as prediction};
use crate::apply::stream::{ImageStream, Passage};
use crate::cli::args::{ArrayArgs, EmbedArgs, PredictArgs, StreamArgs, TokenizeArgs, UseArgs};
use crate::cli::device::{Chosen, on_device};
use crate::cli::on_threads;
use crate::config::PrecisionChoice;
use crate::error::{Error, Result};
use crate::run::{PendingFile, claim, install_interrupt};
use crate::shown;
use std::io::{ErrorKind, IsTerminal, Write};
use std::path::Path;

impl UseArgs {
    pub(super) fn open(&self) -> Result<Chosen> {
        Chosen::open(self.device, PrecisionChoice::F32)
    }
}

impl StreamArgs {
    fn passage(&self, what: &'static str) -> Passage {
        let (batch, max_bad) = (usize::from(self.batch), Some(self.common.max_bad));
        Passage { batch, max_bad, progress: Some(what) }
    }
}

/// Where rows go.
enum RowSink {
    File(PendingFile),
    /// Standard output; whether that is a terminal.
    Stdout(bool),
}

impl RowSink {
    fn open(path: Option<&Path>) -> Result<Self> {
        match path {
            Some(path) => PendingFile::create(path).map(Self::File),
            None => Ok(Self::Stdout(std::io::stdout().is_terminal())),
        }
    }

    fn write(&mut self, rows: &str) -> Result<()> {
        match self {
            Self::File(file) => file.append(rows.as_bytes()),
            Self::Stdout(true) => to_stdout(&shown::lines(rows)),
            Self::Stdout(false) => to_stdout(rows),
        }
    }

    fn finish(self) -> Result<()> {
        match self {
            Self::File(file) => file.finish(),
            Self::Stdout(_) => Ok(()),
        }
    }
}

/// Ends the program quietly where nobody reads any more.
fn to_stdout(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() == ErrorKind::BrokenPipe => std::process::exit(1),
        written => written.map_err(Error::io("cannot write", "to standard output")),
    }
}

/// `beit predict`
pub fn predict(args: &PredictArgs) -> Result<()> {
    let chosen = args.stream.common.open()?;
    let on_terminal = args.out.is_none() && std::io::stdout().is_terminal();
    // Every image has its row, whatever the share of those that cannot be read.
    let passage = args.stream.passage("predict");
    let progress = passage.progress.filter(|_| !on_terminal);
    let passage = Passage { max_bad: None, progress, ..passage };
    let task = PredictTask { top: args.top as usize, format: args.format, passage };
    if args.out.is_some() {
        install_interrupt()?; // what is half written goes
    }
    let (unread, images) = on_threads(args.stream.common.threads, || {
        on_device!(chosen, bk => {
            let opened = OpenedClassifier::open(&bk, &args.model)?.at(args.image_size)?;
            let images = ImageStream::open(&args.images)?;
            let mut rows = RowSink::open(args.out.as_deref())?;
            let unread = prediction(&bk, &opened, &images, &task, |text| rows.write(text))?;
            rows.finish()?;
            Ok((unread, images.images()))
        })
    })?;
    args.out.iter().for_each(|out| say!("{}", shown::line(&out.to_string_lossy())));
    unread.check(args.stream.common.max_bad, images)
}

/// Runs `write` on the images of an array in its folder, and says what came out.
fn array(
    args: &ArrayArgs,
    what: &'static str,
    open: impl FnOnce(&Chosen, &ImageStream, &ArrayTask) -> Result<WrittenArray> + Send,
) -> Result<()> {
    let stream = &args.stream;
    let chosen = stream.common.open()?;
    install_interrupt()?;
    let written = on_threads(stream.common.threads, || {
        let images = ImageStream::open(std::slice::from_ref(&args.data))?;
        let task =
            ArrayTask { folder: &args.out, format: args.format, passage: stream.passage(what) };
        open(&chosen, &images, &task)
    })?;
    let WrittenArray { path, shape, unreadable } = written;
    say!("{}: {shape:?}", shown::line(&path.to_string_lossy()));
    if unreadable > 0 {
        say!("{unreadable} unreadable images were left out: unreadable.txt");
    }
    Ok(())
}

/// `beit embed`
pub fn embed(args: &EmbedArgs) -> Result<()> {
    array(&args.array, "embed", |chosen, images, task| {
        on_device!(chosen, bk => {
            let opened = OpenedEncoder::open(&bk, &args.model)?;
            let block = block_of(&opened, args.block)?;
            let _lock = claim(task.folder)?;
            arrays::embed(&bk, &opened, images, (block, args.what), task)
        })
    })
}

/// `beit tokenize`
pub fn tokenize(args: &TokenizeArgs) -> Result<()> {
    array(&args.array, "tokenize", |chosen, images, task| {
        on_device!(chosen, bk => {
            let tokenizer = Tokenizer::load(&bk, &args.tokenizer)?;
            let _lock = claim(task.folder)?;
            arrays::tokenize(&bk, &tokenizer, images, task)
        })
    })
}
