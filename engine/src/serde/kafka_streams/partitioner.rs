//! Which partition a key belongs to, as every Kafka client decides it: records of one key must meet
//! in one partition whoever wrote them. Source: `Utils.murmur2` and `BuiltInPartitioner` of Kafka's
//! clients. Must not know serdes.

/// The hash of a key's bytes (32-bit `MurmurHash2` with Kafka's seed).
pub fn murmur2(key: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const MIX: u32 = 0x5bd1_e995;
    // Kafka's lengths are 32 bits wide; no key of a record is longer.
    let [.., a, b, c, d] = key.len().to_be_bytes();
    let mut hash = SEED ^ u32::from_be_bytes([a, b, c, d]);
    let (words, rest) = key.as_chunks::<4>();
    for word in words {
        let mut mixed = u32::from_be_bytes([word[3], word[2], word[1], word[0]]);
        mixed = mixed.wrapping_mul(MIX);
        mixed ^= mixed >> 24;
        hash = hash.wrapping_mul(MIX) ^ mixed.wrapping_mul(MIX);
    }
    if !rest.is_empty() {
        for (index, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * index);
        }
        hash = hash.wrapping_mul(MIX);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(MIX);
    hash ^ (hash >> 15)
}

/// The partition, from 0, of a key among `partitions`.
///
/// A record without a key has no such partition: its writer chooses. For windowed keys pass
/// [`Serde::partition_key`](crate::serde::Serde::partition_key), so that all windows of a key meet.
///
/// # Panics
/// `partitions` is 0, which no topic has.
pub fn partition_for(key: &[u8], partitions: u32) -> u32 {
    (murmur2(key) & 0x7fff_ffff) % partitions
}
