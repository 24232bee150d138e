//! A check of a segment's content that neither checksums nor the graph's own check can make.

/// Whether `offsets` cuts `entries` tids into one non-empty group a row.
///
/// # Errors
/// What is wrong, in words.
pub(crate) fn tid_offsets(offsets: &[u32], entries: u32) -> Result<(), String> {
    let ends = (offsets.first(), offsets.last());
    if ends != (Some(&0), Some(&entries)) {
        return Err(format!("tid_offsets that do not span {entries} tids"));
    }
    match offsets.windows(2).position(|pair| pair[0] >= pair[1]) {
        Some(row) => Err(format!("tid_offsets that give row {row} no tid")),
        None => Ok(()),
    }
}
