//! A batch into a journal row.

use std::cell::RefCell;

use bytes::Bytes;
use runnel_model::{ContentSum, EventBatch};
use xxhash_rust::xxh3::xxh3_64;

use super::{FORMAT, HEAD, MARK, MESSAGE_BYTES, TAIL, message};
use crate::AdmitError;

/// Fast enough to stay behind the network, and the row is soon rewritten into a block.
const LEVEL: i32 = 1;

/// Most bytes that a thread keeps between rows.
const KEPT: usize = 512 * 1024;

thread_local! {
    static COMPRESSOR: RefCell<Option<zstd::bulk::Compressor<'static>>> = const { RefCell::new(None) };
    /// Room for a compressed message, kept so that no row costs fresh memory for the worst case.
    static ROOM: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Encodes a consistent batch. Gives the row and the length of the message before compression.
pub(crate) fn encode(batch: &EventBatch, sum: ContentSum) -> Result<(Bytes, u64), AdmitError> {
    let raw = message::write(batch, sum);
    if raw.len() > MESSAGE_BYTES {
        return Err(AdmitError::TooLarge { bytes: raw.len() as u64, limit: MESSAGE_BYTES as u64 });
    }
    let bound = zstd::zstd_safe::compress_bound(raw.len());
    ROOM.with_borrow_mut(|room| {
        if room.len() < bound {
            room.resize(bound, 0);
        }
        let compressed = compress(&raw, &mut room[..bound]).map_err(AdmitError::Compression)?;
        let mut row = Vec::with_capacity(HEAD + compressed + TAIL);
        row.extend_from_slice(&MARK);
        row.extend_from_slice(&FORMAT.to_le_bytes());
        row.extend_from_slice(&(raw.len() as u32).to_le_bytes());
        row.extend_from_slice(&room[..compressed]);
        let checksum = xxh3_64(&row);
        row.extend_from_slice(&checksum.to_le_bytes());
        if room.len() > KEPT {
            *room = Vec::new();
        }
        Ok((Bytes::from(row), raw.len() as u64))
    })
}

fn compress(raw: &[u8], into: &mut [u8]) -> std::io::Result<usize> {
    COMPRESSOR.with_borrow_mut(|slot| {
        let compressor = match slot {
            Some(compressor) => compressor,
            None => slot.insert(zstd::bulk::Compressor::new(LEVEL)?),
        };
        compressor.compress_to_buffer(raw, into)
    })
}
