//! Events that are left out because their visitors are erased.

use runnel_model::{ContentSum, Erasing, EventBatch, content_hashes};

/// What was left out.
#[derive(Debug, Default)]
pub(crate) struct Erased {
    pub(crate) events: u64,
    /// Sum of the content hashes.
    pub(crate) sum: ContentSum,
}

impl Erased {
    /// Counts rows of a batch, ascending, as left out.
    pub(crate) fn note(&mut self, batch: &EventBatch, rows: &[u32]) {
        if rows.is_empty() {
            return;
        }
        let hashes = content_hashes(batch);
        self.events += rows.len() as u64;
        let gone = rows.iter().filter_map(|&row| hashes.get(row as usize));
        self.sum = gone.fold(self.sum, |sum, hash| sum.plus(*hash));
    }
}

/// The rows of a batch that erasures take away, ascending.
pub(crate) fn erased_rows(batch: &EventBatch, erasing: &Erasing) -> Vec<u32> {
    if erasing.is_empty() {
        return Vec::new();
    }
    let mut known: Vec<Option<Option<i64>>> = vec![None; batch.strings.len()];
    let rows = batch.visitors.iter().zip(&batch.times).zip(0..);
    let is_erased = |visitor: u32, time_ms: i64, known: &mut Vec<Option<Option<i64>>>| {
        let until = known[visitor as usize].get_or_insert_with(|| erasing.until(batch.strings.get(visitor)));
        until.is_some_and(|until_ms| time_ms <= until_ms)
    };
    rows.filter(|&((&visitor, &time_ms), _)| is_erased(visitor, time_ms, &mut known))
        .map(|(_, row)| row)
        .collect()
}
