//! Values with their record's time in front: `timestamp (i64 BE) | value`.
//!
//! The bytes of Kafka Streams' `ValueAndTimestampSerializer`, kept on our disk too, so that a
//! changelog record's value and a row's value are one. Must not know what the value is.

/// Bytes in front of the value.
pub const TIMESTAMP_BYTES: usize = 8;

/// Writes `timestamp | value` into `out`, replacing what it held.
pub fn encode(timestamp_ms: i64, value: &[u8], out: &mut Vec<u8>) {
    out.clear();
    out.reserve(TIMESTAMP_BYTES + value.len());
    out.extend_from_slice(&timestamp_ms.to_be_bytes());
    out.extend_from_slice(value);
}

/// Splits a stored value into its time and its bytes; `None` when it is too short to have a time.
pub fn decode(stored: &[u8]) -> Option<(i64, &[u8])> {
    let (timestamp, value) = stored.split_first_chunk::<TIMESTAMP_BYTES>()?;
    Some((i64::from_be_bytes(*timestamp), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_comes_back_with_its_time_even_when_the_time_is_hostile() {
        let mut out = vec![1, 2, 3];
        for timestamp in [0, 1, -1, i64::MIN, i64::MAX] {
            encode(timestamp, b"v", &mut out);
            assert_eq!(decode(&out), Some((timestamp, b"v".as_slice())));
        }
        assert_eq!(decode(b"short"), None);
    }
}
