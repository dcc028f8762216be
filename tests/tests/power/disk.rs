//! The disk as a power cut leaves it, made from what was recorded about a process.
//!
//! What was flushed is there. What was written since may be there, in part, or not at all, in any order. It knows nothing
//! of what the files mean.

use std::collections::{BTreeMap, HashMap};

use rand::RngExt as _;
use rand::rngs::StdRng;

/// What a disk writes at once.
const SECTOR: usize = 512;

/// One thing that a process did to a file.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) name: String,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Write { offset: usize, content: Vec<u8> },
    Truncate(usize),
    Unlink,
    Begin(u64),
    End(u64),
}

impl Record {
    pub(super) fn ends_flush(&self) -> bool {
        matches!(self.kind, Kind::End(_))
    }
}

/// Reads what `recorder.c` wrote. A record that a kill has cut off is the last one and is left out.
pub(super) fn records(log: &[u8]) -> Vec<Record> {
    let (mut records, mut rest) = (Vec::new(), log);
    let number = |bytes: &[u8]| u64::from_ne_bytes(bytes.try_into().unwrap());
    while let Some((head, after)) = rest.split_at_checked(18) {
        let (kind, length) = (head[0], usize::from(head[1]));
        let (offset, size) = (number(&head[2..10]), number(&head[10..18]) as usize);
        let Some((name, after)) = after.split_at_checked(length) else {
            break;
        };
        let Some((content, after)) = after.split_at_checked(size) else {
            break;
        };
        rest = after;
        let content = content.to_vec();
        records.push(Record {
            name: String::from_utf8(name.to_vec()).unwrap(),
            kind: match kind {
                b'w' => Kind::Write {
                    offset: offset as usize,
                    content,
                },
                b't' => Kind::Truncate(offset as usize),
                b'u' => Kind::Unlink,
                b'b' => Kind::Begin(offset),
                b'e' => Kind::End(offset),
                other => panic!("a record of kind {other}"),
            },
        });
    }
    records
}

/// A disk while the records are played back.
#[derive(Debug, Default)]
pub(super) struct Disk {
    files: BTreeMap<String, File>,
    /// Whether flushes do nothing: a disk that lies.
    lies: bool,
}

#[derive(Debug, Default)]
struct File {
    durable: Vec<u8>,
    /// What was done since, oldest first, with its number.
    pending: Vec<(u64, Change)>,
    next: u64,
    /// Flushes that run, with the number of the first change that they may not cover.
    flushing: HashMap<u64, u64>,
}

#[derive(Debug, Clone)]
enum Change {
    Write(usize, Vec<u8>),
    Truncate(usize),
}

impl Change {
    fn make(&self, content: &mut Vec<u8>) {
        match self {
            Self::Truncate(size) => content.resize(*size, 0),
            Self::Write(offset, bytes) => {
                let end = offset + bytes.len();
                if content.len() < end {
                    content.resize(end, 0);
                }
                content[*offset..end].copy_from_slice(bytes);
            }
        }
    }
}

impl Disk {
    /// One whose flushes are no flushes.
    pub(super) fn lying() -> Self {
        Self {
            lies: true,
            ..Self::default()
        }
    }

    pub(super) fn play(&mut self, record: &Record) {
        if matches!(record.kind, Kind::Unlink) {
            // At once, as if its folder had been flushed.
            self.files.remove(&record.name);
            return;
        }
        let file = self.files.entry(record.name.clone()).or_default();
        let mut change = |change| {
            file.pending.push((file.next, change));
            file.next += 1;
        };
        match &record.kind {
            Kind::Write { offset, content } => change(Change::Write(*offset, content.clone())),
            Kind::Truncate(size) => change(Change::Truncate(*size)),
            Kind::Unlink => {}
            Kind::Begin(thread) => drop(file.flushing.insert(*thread, file.next)),
            Kind::End(thread) => {
                let covered = file.flushing.remove(thread).unwrap();
                if self.lies {
                    return;
                }
                for (_, change) in file.pending.extract_if(.., |(number, _)| *number < covered) {
                    change.make(&mut file.durable);
                }
            }
        }
    }

    /// The files as the power cut leaves them at this moment: nothing but what was flushed, or with a random part of the
    /// rest.
    pub(super) fn cut(&self, random: Option<&mut StdRng>) -> BTreeMap<String, Vec<u8>> {
        let mut files: BTreeMap<_, _> = (self.files.iter())
            .map(|(name, file)| (name.clone(), file.durable.clone()))
            .collect();
        let Some(random) = random else { return files };
        for (name, content) in &mut files {
            for (_, change) in &self.files[name].pending {
                match change {
                    _ if random.random_bool(0.5) => {}
                    Change::Write(offset, bytes) if random.random_bool(0.2) => {
                        let sectors = random.random_range(0..=bytes.len() / SECTOR);
                        let part = bytes[..sectors * SECTOR].to_vec();
                        Change::Write(*offset, part).make(content);
                    }
                    change => change.make(content),
                }
            }
        }
        files
    }

    /// What everybody else sees of a file while the power is on.
    pub(super) fn seen(&self, name: &str) -> Vec<u8> {
        let Some(file) = self.files.get(name) else {
            return Vec::new();
        };
        let mut content = file.durable.clone();
        file.pending
            .iter()
            .for_each(|(_, change)| change.make(&mut content));
        content
    }
}
