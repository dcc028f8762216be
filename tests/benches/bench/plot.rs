//! The figure of the documentation: each result beside its limit, with the target between them. Written by hand as SVG,
//! readable on light and dark pages.

use std::fmt::Write as _;

use super::report::Bar;

const WIDTH: f64 = 860.0;
const MARGIN: f64 = 24.0;
/// Where bars begin; what they are called is before.
const LEFT: f64 = 250.0;
/// How long the longest bar of a block is; its figure is behind it.
const LONGEST: f64 = 420.0;
const HEAD: f64 = 74.0;
const BLOCK: f64 = 84.0;
const THICK: f64 = 18.0;

/// Colours are written out, since not every viewer knows variables.
const STYLE: &str = "
  text { font: 13px system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif; fill: #1f2328 }
  .title { font-size: 17px; font-weight: 600 }
  .name { font-weight: 600 }
  .quiet { fill: #59636e }
  .page { fill: #ffffff; stroke: #d1d9e0 }
  .limit { fill: #b6bfc9 }
  .ours { fill: #0969da }
  .target { stroke: #116329; stroke-width: 2; stroke-dasharray: 4 3 }
  .wanted { fill: #116329; font-size: 12px }
  .missed { fill: #a40e26; font-size: 12px }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc }
    .quiet { fill: #9ea7b3 }
    .page { fill: #0d1117; stroke: #3d444d }
    .limit { fill: #59636e }
    .ours { fill: #4493f8 }
    .target { stroke: #56d364 }
    .wanted { fill: #56d364 }
    .missed { fill: #ff9492 }
  }
";

/// The whole figure.
pub(crate) fn svg(bars: &[Bar], about: &str) -> String {
    let height = HEAD + BLOCK * bars.len() as f64 + MARGIN;
    let mut svg = String::new();
    let mut line = |text: String| {
        svg.push_str(&text);
        svg.push('\n');
    };
    line(format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img" aria-labelledby="title">"#
    ));
    line(format!(
        "<title id=\"title\">Sandbar beside the limits that it is compared with</title>\n<style>{STYLE}</style>"
    ));
    line(format!(
        r#"<rect class="page" x="0.5" y="0.5" width="{}" height="{}" rx="8"/>"#,
        WIDTH - 1.0,
        height - 1.0
    ));
    line(text(
        "title",
        (MARGIN, 32.0),
        "start",
        "Sandbar beside its limits",
    ));
    line(text("quiet", (MARGIN, 54.0), "start", about));
    for (number, bar) in bars.iter().enumerate() {
        line(block(bar, HEAD + BLOCK * number as f64));
    }
    svg.push_str("</svg>\n");
    svg
}

/// One result: its name, the limit's bar, ours, and the line of the target.
fn block(bar: &Bar, top: f64) -> String {
    let (limit, figure) = bar.limit;
    let most = figure.max(bar.ours).max(bar.target);
    let length = |figure: f64| (figure / most * LONGEST).max(1.0);
    let sense = if bar.more { "more" } else { "less" };
    let mut block = String::new();
    let mut add = |part: String| {
        // Writing to a string does not fail.
        writeln!(block, "{part}").ok();
    };
    let name = format!("{} ({sense} is better)", bar.name);
    add(text("name", (MARGIN, top + 14.0), "start", &name));
    for (row, class, label, figure) in [
        (0.0, "limit", limit, figure),
        (1.0, "ours", "Sandbar", bar.ours),
    ] {
        let y = top + 24.0 + row * (THICK + 4.0);
        let middle = y + THICK - 4.5;
        add(text("quiet", (LEFT - 10.0, middle), "end", label));
        add(format!(
            r#"<rect class="{class}" x="{LEFT}" y="{y:.1}" width="{:.1}" height="{THICK}" rx="2"/>"#,
            length(figure)
        ));
        // Behind the line of the target when that is close, so that neither is hidden.
        let end = LEFT + length(figure);
        let target = LEFT + length(bar.target);
        let x = if (end..end + 90.0).contains(&target) {
            target
        } else {
            end
        };
        add(text("", (x + 8.0, middle), "start", &(bar.unit)(figure)));
    }
    let x = LEFT + length(bar.target);
    add(format!(
        r#"<line class="target" x1="{x:.1}" y1="{:.1}" x2="{x:.1}" y2="{:.1}"/>"#,
        top + 20.0,
        top + 28.0 + 2.0 * THICK + 2.0
    ));
    let (class, verdict) = match bar.reached() {
        true => ("wanted", "reached"),
        false => ("missed", "missed"),
    };
    let wanted = format!("target {}: {verdict}", bar.wanted);
    add(text(class, (WIDTH - MARGIN, top + 14.0), "end", &wanted));
    block
}

fn text(class: &str, (x, y): (f64, f64), anchor: &str, words: &str) -> String {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    format!(r#"<text class="{class}" x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{words}</text>"#)
}
