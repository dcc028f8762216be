//! The tables of the manual name every test of this suite, and no other.

use std::collections::BTreeSet;

const MANUAL: &str = include_str!("../../../docs/sandbox.md");
const SUITE: [&str; 3] = [
    include_str!("calls.rs"),
    include_str!("files.rs"),
    include_str!("loads.rs"),
];

#[test]
fn the_manual_lists_every_sin() {
    let marked = SUITE.iter().flat_map(|text| {
        let lines: Vec<&str> = text.lines().collect();
        lines
            .windows(2)
            .filter(|two| two[0].starts_with("#[tokio::test") || two[0] == "#[test]")
            .filter_map(|two| two[1].split_once("fn ")?.1.split('(').next())
            .map(str::to_owned)
            .collect::<Vec<_>>()
    });
    // Those that behave show that the others fail for what they say.
    let sins: BTreeSet<String> = marked
        .filter(|name| !name.starts_with("a_raw_") && !name.starts_with("what_"))
        .collect();
    let (sins_of_it, _) = MANUAL
        .split_once("## Files that nobody")
        .expect("a section");
    let (_, sins_of_it) = sins_of_it.split_once("## Every sin").expect("a section");
    let rows = sins_of_it
        .lines()
        .filter_map(|line| line.strip_prefix("| `"));
    let listed: BTreeSet<String> = rows
        .filter_map(|row| row.split('`').next())
        .map(str::to_owned)
        .collect();
    assert_eq!(listed, sins);
}
