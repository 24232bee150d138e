//! Are the examples of docs/filters.md filters?

use filter::compile;

const PAGE: &str = include_str!("../../../docs/filters.md");

#[test]
fn every_example_compiles() {
    // In a table a backslash keeps a bar from ending the cell.
    let page = PAGE.replace(r"\|", "|");
    let spans = page.split('`').skip(1).step_by(2);
    let indented = page.lines().filter_map(|line| line.strip_prefix("    "));
    let examples: Vec<_> = spans.chain(indented).filter(|text| text.starts_with("{\"")).collect();
    assert!(examples.len() > 20, "only {examples:?}");
    for example in examples {
        let path = compile(example).unwrap_or_else(|error| panic!("{example}: {error}"));
        assert!(path.is_some(), "{example} matches every row");
    }
}

#[test]
fn limits_are_told() {
    for limit in ["1 MiB of\ntext", "10,000 values", "64 levels", "4 MiB"] {
        assert!(PAGE.contains(limit), "{limit}");
    }
    assert_eq!(filter::MAX_BYTES, 1 << 20);
    assert_eq!(filter::MAX_VALUES, 10_000);
    assert_eq!(filter::MAX_DEPTH, 64);
    assert_eq!(filter::MAX_PATH_BYTES, 4 << 20);
}
