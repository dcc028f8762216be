//! One message for each line of a file, in batches, with an account of what was accepted.
//!
//! Nothing is left in the dark: whatever goes wrong, the last words say how many lines were accepted and how to go on.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use sandbar::backend::{Backend, Outgoing};
use serde::Serialize;
use tokio::sync::mpsc::{self, Receiver};
use tokio::time::Instant;

use super::Send;
use crate::cli::signals::Signals;
use crate::cli::terminal::{self, Progress, note};
use crate::cli::{Ended, Usage, content};

/// Messages that are published at once.
const BATCH: usize = 512;

/// Lines of a file, with their numbers.
pub(super) struct Lines {
    name: String,
    reader: Box<dyn BufRead + std::marker::Send>,
    bytes: Option<u64>,
    read: u64,
    number: u64,
}

/// What has become of the lines so far.
#[derive(Debug, Default, Serialize)]
struct Account {
    accepted: u64,
    /// Lines that were not: where to go on.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_line: Option<u64>,
    /// Of the accepted ones, those that came after a line that was not.
    #[serde(skip)]
    ahead: u64,
    seconds: f64,
    #[serde(skip)]
    waiting: u64,
}

impl Account {
    fn tell(&self, verb: &Send, elapsed: Duration) {
        let rate = terminal::rate(self.accepted, elapsed);
        note(format!(
            "{} accepted in {}, {rate} messages/s",
            terminal::count(self.accepted),
            terminal::time(elapsed)
        ));
        if self.waiting > 0 {
            note(format!(
                "note: no queue is bound to topic `{}` yet, so {} wait in the topic until one is",
                verb.topic.topic,
                terminal::count(self.waiting)
            ));
        }
        let Some(next) = self.next_line else { return };
        note(format!(
            "line {next} was not accepted; go on from there with `--skip {}`",
            next - 1
        ));
        if self.ahead > 0 {
            note(format!(
                "{} lines after it were accepted and would be sent again",
                self.ahead
            ));
        }
    }
}

impl Lines {
    pub(super) fn open(file: &Path) -> anyhow::Result<Self> {
        let name = file.display().to_string();
        if name == "-" {
            let reader = Box::new(BufReader::new(std::io::stdin()));
            return Ok(Self {
                name,
                reader,
                bytes: None,
                read: 0,
                number: 0,
            });
        }
        let opened = File::open(file).and_then(|opened| Ok((opened.metadata()?, opened)));
        let (about, opened) = opened.map_err(|error| Usage(format!("file {name}: {error}")))?;
        let bytes = about.is_file().then_some(about.len());
        let reader = Box::new(BufReader::with_capacity(256 * 1024, opened));
        Ok(Self {
            name,
            reader,
            bytes,
            read: 0,
            number: 0,
        })
    }

    /// The next line without its end.
    fn next(&mut self) -> anyhow::Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        let place = || format!("{}:{}", self.name, self.number + 1);
        let read = self
            .reader
            .read_until(b'\n', &mut line)
            .with_context(place)?;
        if read == 0 {
            return Ok(None);
        }
        self.read += u64::try_from(read).unwrap_or(0);
        self.number += 1;
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Ok(Some(line))
    }
}

/// A line that became a message.
struct Line {
    number: u64,
    /// Bytes of the file up to its end.
    read: u64,
    outgoing: Outgoing,
}

/// A line that cannot be sent.
struct Wrong {
    number: u64,
    error: anyhow::Error,
}

/// Sends every line.
pub(super) async fn send(
    verb: Arc<Send>,
    lines: Lines,
    backend: &dyn Backend,
) -> anyhow::Result<Ended> {
    let began = Instant::now();
    let mut signals = Signals::new()?;
    let mut account = Account::default();
    let result = {
        let progress = Progress::new("sending", lines.bytes);
        let read = read_all(verb.clone(), lines);
        tokio::select! {
            result = send_all(read, backend, &mut account, &progress) => result.map(|()| Ended::Done),
            () = signals.next() => Ok(Ended::Interrupted),
        }
    };
    let elapsed = began.elapsed();
    account.seconds = elapsed.as_secs_f64();
    if verb.json {
        terminal::json(&account)?;
    }
    account.tell(&verb, elapsed);
    if result
        .as_ref()
        .is_ok_and(|ended| *ended == Ended::Interrupted)
    {
        note(format!("up to {BATCH} lines more may have been accepted"));
    }
    result
}

/// Reads in a thread of its own: a terminal or a pipe may keep it waiting for ever, and what was read is sent meanwhile.
fn read_all(verb: Arc<Send>, mut lines: Lines) -> Receiver<Result<Line, Wrong>> {
    let (sender, receiver) = mpsc::channel(2 * BATCH);
    tokio::task::spawn_blocking(move || {
        loop {
            let item = match next_message(&verb, &mut lines) {
                Ok(Some(outgoing)) => Ok(Line {
                    number: lines.number,
                    read: lines.read,
                    outgoing,
                }),
                Ok(None) => return,
                Err(error) => Err(Wrong {
                    number: lines.number,
                    error,
                }),
            };
            let last = item.is_err();
            if sender.blocking_send(item).is_err() || last {
                return;
            }
        }
    });
    receiver
}

async fn send_all(
    mut read: Receiver<Result<Line, Wrong>>,
    backend: &dyn Backend,
    account: &mut Account,
    progress: &Progress,
) -> anyhow::Result<()> {
    let mut items = Vec::with_capacity(BATCH);
    // Whatever has been read goes out together; nothing waits for a full batch.
    while read.recv_many(&mut items, BATCH).await > 0 {
        let mut batch = Vec::with_capacity(items.len());
        let (mut wrong, mut position) = (None, None);
        for item in items.drain(..) {
            match item {
                Ok(line) => {
                    position = Some(line.read);
                    batch.push((line.number, line.outgoing));
                }
                Err(error) => wrong = Some(error),
            }
        }
        publish(backend, batch, account).await?;
        if let Some(Wrong { number, error }) = wrong {
            account.next_line = Some(number);
            return Err(error);
        }
        if let Some(position) = position {
            progress.set(position);
        }
    }
    Ok(())
}

/// The message of the next line that holds one.
fn next_message(verb: &Send, lines: &mut Lines) -> anyhow::Result<Option<Outgoing>> {
    while let Some(line) = lines.next()? {
        if lines.number <= verb.skip {
            continue;
        }
        if !verb.options.raw {
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            if let Err(error) = content::check_json(&line) {
                // Its own line is always 1.
                let (name, number, column) = (&lines.name, lines.number, error.column());
                let what = error.to_string();
                let what = what.split(" at line ").next().unwrap_or_default();
                anyhow::bail!(
                    "{name}:{number}:{column}: the line is not JSON: {what}; correct it, or add --raw to send lines as they are"
                );
            }
        }
        return verb.outgoing(line).map(Some);
    }
    Ok(None)
}

async fn publish(
    backend: &dyn Backend,
    batch: Vec<(u64, Outgoing)>,
    account: &mut Account,
) -> anyhow::Result<()> {
    let (numbers, batch): (Vec<u64>, Vec<Outgoing>) = batch.into_iter().unzip();
    let mut failed = None;
    for (number, result) in numbers.into_iter().zip(backend.publish(batch).await) {
        match result {
            Ok(receipt) => {
                account.accepted += 1;
                account.waiting += u64::from(receipt.queues == 0);
                account.ahead += u64::from(failed.is_some());
            }
            Err(error) => {
                account.next_line = account.next_line.or(Some(number));
                failed = failed.or(Some(error));
            }
        }
    }
    failed.map_or(Ok(()), |error| Err(error.into()))
}
