//! What a benchmark found, as Markdown: tables, notes, and what the figure shows of it.

use std::fmt;

/// The results of one benchmark.
#[derive(Debug)]
pub(crate) struct Section {
    title: String,
    /// What was done, in a sentence or two.
    about: String,
    tables: Vec<Table>,
    notes: Vec<String>,
    pub(crate) bars: Vec<Bar>,
}

/// One thing in the figure: ours beside the limit that it is compared with.
#[derive(Debug, Clone)]
pub(crate) struct Bar {
    /// What it is, in a few words.
    pub(crate) name: &'static str,
    /// The limit: its name, its figure.
    pub(crate) limit: (&'static str, f64),
    /// Ours.
    pub(crate) ours: f64,
    /// What ours should reach, in the same unit.
    pub(crate) target: f64,
    /// The target in words.
    pub(crate) wanted: &'static str,
    /// How a figure is printed.
    pub(crate) unit: fn(f64) -> String,
    /// Whether more is better; less is otherwise.
    pub(crate) more: bool,
}

/// Rows under headings.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Section {
    pub(crate) fn new(title: &str, about: &str) -> Self {
        Self {
            title: title.to_owned(),
            about: about.to_owned(),
            tables: Vec::new(),
            notes: Vec::new(),
            bars: Vec::new(),
        }
    }

    pub(crate) fn table(&mut self, table: Table) {
        self.tables.push(table);
    }

    pub(crate) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    pub(crate) fn bar(&mut self, bar: Bar) {
        self.bars.push(bar);
    }
}

impl Bar {
    /// Whether ours is at least as good as the target.
    pub(crate) fn reached(&self) -> bool {
        if self.more {
            self.ours >= self.target
        } else {
            self.ours <= self.target
        }
    }
}

impl Table {
    pub(crate) fn new<'a>(headings: impl IntoIterator<Item = &'a str>) -> Self {
        let mut table = Self::default();
        table.row(headings);
        table
    }

    pub(crate) fn row<T: Into<String>>(&mut self, cells: impl IntoIterator<Item = T>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "### {}\n\n{}", self.title, self.about)?;
        for table in &self.tables {
            write!(f, "\n{table}")?;
        }
        for note in &self.notes {
            writeln!(f, "\n{note}")?;
        }
        for bar in &self.bars {
            let (limit, figure) = bar.limit;
            let verdict = if bar.reached() { "reached" } else { "MISSED" };
            writeln!(
                f,
                "\n* Target, {}: {} – **{verdict}**, {} beside {} ({limit}).",
                bar.name,
                bar.wanted,
                (bar.unit)(bar.ours),
                (bar.unit)(figure),
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows.first().map_or(0, Vec::len);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for (number, row) in self.rows.iter().enumerate() {
            for (cell, width) in row.iter().zip(&widths) {
                write!(f, "| {cell:width$} ")?;
            }
            writeln!(f, "|")?;
            if number == 0 {
                for width in &widths {
                    write!(f, "|{}", "-".repeat(width + 2))?;
                }
                writeln!(f, "|")?;
            }
        }
        Ok(())
    }
}
