//! Rows of text in columns, as wide as their widest cell; the last one as wide as it likes.
//!
//! For people: programs are given `--json`.

use super::terminal::printable;

/// Rows under their headings.
#[derive(Debug)]
pub(super) struct Table {
    rows: Vec<Vec<String>>,
    right: Vec<usize>,
}

impl Table {
    /// A table with these headings.
    pub(super) fn new(headings: &[&str]) -> Self {
        let headings = headings.iter().map(|it| it.to_uppercase()).collect();
        Self {
            rows: vec![headings],
            right: Vec::new(),
        }
    }

    /// Numbers in these columns end below each other.
    pub(super) fn right(mut self, columns: &[usize]) -> Self {
        self.right = columns.to_vec();
        self
    }

    /// Adds a row. What others wrote is made printable, on one line.
    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let one_line = |cell: String| printable(&cell).replace(['\n', '\t'], " ");
        self.rows.push(cells.into_iter().map(one_line).collect());
    }

    /// The text, with a line end after each row.
    pub(super) fn text(&self) -> String {
        let columns = self.rows.first().map_or(0, Vec::len);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                let padding = " ".repeat(width.saturating_sub(cell.chars().count()));
                if self.right.contains(&column) {
                    line.push_str(&padding);
                    line.push_str(cell);
                } else {
                    line.push_str(cell);
                    line.push_str(&padding);
                }
                line.push_str("  ");
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_must_be() {
        let mut table = Table::new(&["n", "what"]).right(&[0]);
        table.row(["1".to_owned(), "ä\u{1b}".to_owned()]);
        table.row(["100".to_owned(), "two\nlines".to_owned()]);
        assert_eq!(table.text(), "  N  WHAT\n  1  ä\u{fffd}\n100  two lines\n");
    }
}
