//! A block that is being written out of stages, and its proof.

use std::ops::Range;

use bytes::Bytes;
use runnel_model::{ContentSum, SHARDS, content_hashes};

use super::{
    Dropped, MergeError,
    group::{Recoder, divide, gather},
    order::order,
    stage::{Stage, Vocabulary},
};
use crate::block::{Block, BlockWriter, Footer, IdForm, Layout};

/// Events that a row group should have at least.
const GROUP_ROWS: u64 = 32 * 1024;

/// How many ranges of shards a block of so many events is divided into: a power of two.
pub(crate) fn ranges_for(events: u64) -> usize {
    let ranges = (events / GROUP_ROWS).clamp(1, SHARDS as u64);
    1 << ranges.ilog2()
}

/// The shards of a range.
pub(crate) fn shards_of(range: usize, ranges: usize) -> Range<usize> {
    let width = SHARDS / ranges;
    range * width..(range + 1) * width
}

/// A block that is being written.
pub(crate) struct Target {
    writer: BlockWriter,
    slots: Vec<usize>,
    recoder: Recoder,
}

impl Target {
    /// Begins a block. `columns` are slots of the vocabulary, in any order.
    pub(crate) fn new(
        vocabulary: &Vocabulary,
        mut columns: Vec<usize>,
        sequence: bool,
        ids: IdForm,
    ) -> Result<Target, MergeError> {
        columns.sort_unstable_by(|&left, &right| vocabulary.slots[left].cmp(&vocabulary.slots[right]));
        let layout = Layout {
            sequence,
            ids,
            columns: columns.iter().map(|&slot| vocabulary.slots[slot].clone()).collect(),
        };
        let writer = BlockWriter::new(layout).map_err(MergeError::Write)?;
        Ok(Target { writer, slots: columns, recoder: Recoder::default() })
    }

    /// Writes a stage's events, which belong to these shards and come behind all that was written.
    pub(crate) fn write(
        &mut self,
        stage: &Stage,
        vocabulary: &Vocabulary,
        shards: &Range<usize>,
        dropped: &mut Dropped,
    ) -> Result<(), MergeError> {
        if stage.len() == 0 {
            return Ok(());
        }
        let order = order(stage);
        order.note(stage, vocabulary, dropped);
        for rows in divide(stage, &order.rows) {
            let rows = &order.rows[rows];
            let group = gather(stage, vocabulary, rows, &self.slots, shards.clone(), &mut self.recoder);
            self.writer.write(&group).map_err(MergeError::Write)?;
        }
        Ok(())
    }

    /// Finishes the block, reads every event of the written bytes again and notes the sum of what is really there in the footer.
    pub(crate) fn finish(
        self,
        tenant: &str,
        first_sequence: u64,
        last_sequence: u64,
    ) -> Result<(Bytes, u64, ContentSum), MergeError> {
        let events = self.writer.events();
        let footer = Footer { tenant, first_sequence, last_sequence };
        let bytes = self.writer.finish(&footer).map_err(MergeError::Write)?;
        let block = Block::open(bytes.clone()).map_err(MergeError::Output)?;
        let mut sum = ContentSum::default();
        for group in 0..block.row_groups().len() {
            let batch = block.read_all(group).map_err(MergeError::Output)?;
            sum = sum.plus(ContentSum::of(&content_hashes(&batch)).0);
        }
        drop(block);
        let bytes = Footer::seal(bytes, sum).map_err(MergeError::Output)?;
        Ok((bytes, events, sum))
    }
}
