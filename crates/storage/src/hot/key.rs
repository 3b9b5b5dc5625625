//! Keys of the hot store. There is one way to make them, and it takes a tenant.

use runnel_model::{SHARDS, TenantName};

/// Slots of a Redis Cluster.
const SLOTS: u16 = 16_384;

/// A shard of a tenant's hot state: what lies together on one node, and is changed together. Every key begins with `{tenant:shard}`, and a cluster looks at
/// nothing else to decide where it lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ShardKey {
    tag: String,
}

impl ShardKey {
    /// A shard of a tenant, `0..SHARDS`; larger numbers begin anew.
    pub(crate) fn new(tenant: &TenantName, shard: usize) -> ShardKey {
        ShardKey { tag: format!("{tenant}:{}", shard % SHARDS) }
    }

    /// A key of the shard.
    pub(crate) fn key(&self, family: &str) -> String {
        format!("{{{}}}:{family}", self.tag)
    }

    /// The slot of the shard in a cluster: CRC-16/XMODEM of the tag, as the cluster's specification says.
    pub(crate) fn slot(&self) -> u16 {
        crc16(self.tag.as_bytes()) % SLOTS
    }
}

const fn table() -> [u16; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut crc, mut bit) = ((byte as u16) << 8, 0);
        while bit < 8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
}

fn crc16(bytes: &[u8]) -> u16 {
    const TABLE: [u16; 256] = table();
    bytes.iter().fold(0, |crc: u16, byte| crc << 8 ^ TABLE[usize::from((crc >> 8) as u8 ^ byte)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_clusters() {
        // The check value of the specification.
        assert_eq!(crc16(b"123456789"), 0x31c3);
    }

    #[test]
    fn a_key_names_its_tenant_and_lies_where_its_tag_does() {
        let (shop, other) = (TenantName::parse("shop").unwrap(), TenantName::parse("shop-2").unwrap());
        let key = ShardKey::new(&shop, 7);
        assert_eq!(key.key("open"), "{shop:7}:open");
        assert_eq!(key.slot(), crc16(b"shop:7") % SLOTS);
        assert_ne!(key, ShardKey::new(&other, 7));
        let slots: std::collections::BTreeSet<u16> =
            (0..SHARDS).map(|shard| ShardKey::new(&shop, shard).slot()).collect();
        assert!(slots.len() > SHARDS * 9 / 10, "a tenant's shards are spread over the cluster");
    }
}
