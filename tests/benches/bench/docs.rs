//! Puts the results into the documentation: the figures of `benchmarks.md` between two marks, and the figure beside it.
//!
//! What is written around the marks is written by people and stays.

use std::path::Path;

use super::plot::svg;
use super::report::{Bar, Section};

const BEGIN: &str = "<!-- figures: written by `cargo bench -p sandbar-tests -- --write docs` -->";
const END: &str = "<!-- end of the figures -->";

/// All results as Markdown.
pub(crate) fn markdown(machine: &[(&str, String)], sections: &[(&str, Section)]) -> String {
    let mut text = String::from("![Sandbar beside its limits](benchmarks.svg)\n\n");
    for (name, value) in machine {
        text.push_str(&format!("* {name}: {value}\n"));
    }
    for (name, section) in sections {
        text.push_str(&format!("\n<a id=\"{name}\"></a>\n\n{section}"));
    }
    text
}

/// Writes `benchmarks.md` and `benchmarks.svg` in a folder.
pub(crate) fn write(
    folder: &Path,
    machine: &[(&str, String)],
    sections: &[(&str, Section)],
) -> Result<(), String> {
    let file = folder.join("benchmarks.md");
    let explain = |error: std::io::Error| format!("{}: {error}", file.display());
    let page = std::fs::read_to_string(&file).map_err(explain)?;
    let marks = page
        .split_once(BEGIN)
        .and_then(|(head, rest)| Some((head, rest.split_once(END)?.1)));
    let Some((head, tail)) = marks else {
        return Err(format!(
            "{} lacks the lines `{BEGIN}` and `{END}`; put them where the figures belong",
            file.display()
        ));
    };
    let figures = markdown(machine, sections);
    let page = format!("{head}{BEGIN}\n\n{figures}\n{END}{tail}");
    std::fs::write(&file, page).map_err(explain)?;
    let bars: Vec<Bar> = sections
        .iter()
        .flat_map(|(_, section)| section.bars.clone())
        .collect();
    let about = machine
        .iter()
        .filter(|(name, _)| matches!(*name, "machine" | "commit"))
        .map(|(_, value)| value.as_str())
        .collect::<Vec<_>>()
        .join("; commit ");
    std::fs::write(folder.join("benchmarks.svg"), svg(&bars, &about)).map_err(explain)
}
