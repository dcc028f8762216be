//! What was asked for on the command line.

use std::path::PathBuf;

/// How much is measured, of what, and where it is written.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    /// A first look: little of everything. The figures are worth little.
    pub(crate) quick: bool,
    /// The folder of the documentation to write into.
    pub(crate) write: Option<PathBuf>,
    /// Names of benchmarks; all when empty.
    pub(crate) wanted: Vec<String>,
}

/// How to ask.
pub(crate) const USAGE: &str = "\
cargo bench -p sandbar-tests [-- [NAME…] [--quick] [--write DIR]]

  NAME         only these benchmarks (see below)
  --quick      little of everything, for a first look; the figures are worth little
  --write DIR  writes benchmarks.svg and the figures of benchmarks.md in DIR (docs), one by one as they are measured";

impl Settings {
    /// Reads the arguments; `Err` says what is wrong with them.
    pub(crate) fn parse(
        arguments: impl IntoIterator<Item = String>,
        known: &[&str],
    ) -> Result<Self, String> {
        let mut settings = Self::default();
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                // Cargo's own, which says that this is `cargo bench`.
                "--bench" => {}
                "--quick" => settings.quick = true,
                "--write" => {
                    let folder = arguments.next().ok_or("`--write` wants a folder")?;
                    settings.write = Some(folder.into());
                }
                name if known.contains(&name) => settings.wanted.push(name.to_owned()),
                other => return Err(format!("there is no {other:?} here")),
            }
        }
        if settings.write.is_some() && !settings.wanted.is_empty() {
            return Err("`--write` wants all benchmarks; leave out the names".to_owned());
        }
        Ok(settings)
    }

    pub(crate) fn wants(&self, name: &str) -> bool {
        self.wanted.is_empty() || self.wanted.iter().any(|wanted| wanted == name)
    }

    /// Either the number of a complete run or that of a quick one.
    pub(crate) fn pick<T>(&self, complete: T, quick: T) -> T {
        if self.quick { quick } else { complete }
    }
}
