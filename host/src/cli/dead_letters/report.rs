//! The last attempt at a dead letter, as people read it: what was used, where the guest was, what it logged and was refused.

use sandbar::store::{Report, Used};

use super::super::table::Table;
use super::super::terminal::printable;
use super::show::indent;
use super::steps;

pub(super) fn as_text(report: &Report) -> String {
    let mut text = String::new();
    section(&mut text, "not granted", &report.refused);
    if !report.trace.is_empty() {
        text.push_str("trace, the innermost function first\n");
        let mut table = Table::new(&["function", "source"]);
        for frame in &report.trace {
            let source = frame.source.clone().unwrap_or_default();
            table.row([printable(&frame.function), printable(&source)]);
        }
        text.push_str(&indent(&table.text()));
    }
    section(&mut text, "log, its last lines", &report.log);
    if let Some(journal) = report.journal.as_ref().filter(|it| !it.steps.is_empty()) {
        text.push_str("steps of the last attempt\n");
        for (number, step) in (1..).zip(&journal.steps) {
            let step = printable(&steps::as_text(step));
            text.push_str(&indent(&format!("{number}  {step}")));
        }
        if journal.cut {
            text.push_str(&indent("and more, which were not kept"));
        }
    }
    if !report.used.is_empty() {
        text.push_str("limits of the last attempt\n");
        let mut table = Table::new(&["limit", "used", "of"]).right(&[1, 2]);
        for used in &report.used {
            let (had, of) = amounts(used);
            table.row([printable(&used.limit), had, of]);
        }
        text.push_str(&indent(&table.text()));
    }
    text
}

fn section(text: &mut String, title: &str, lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    text.push_str(&format!("{title}\n"));
    for line in lines {
        text.push_str(&indent(&printable(line)));
    }
}

/// In the unit that the limit has in the configuration.
fn amounts(used: &Used) -> (String, String) {
    let say = |amount: u64| match used.limit.as_str() {
        "time" => format!("{amount}ms"),
        _ => amount.to_string(),
    };
    (say(used.used), say(used.of))
}
