//! The least that decoding can be: a look at every field.

use runnel_contracts::protobuf::{Fields, Wire};

/// Looks at every field of a message and of the messages in it, as far as the contract nests them.
pub(crate) fn walk(message: &[u8], depth: u32) -> u64 {
    let (mut fields, mut seen) = (Fields::new(message), 0);
    while let Ok(Some((_, value))) = fields.next_field() {
        seen += 1;
        if let (Wire::Bytes(inner), true) = (value, depth > 0) {
            seen += walk(inner, depth - 1);
        }
    }
    seen
}
