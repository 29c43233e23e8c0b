//! A record's print: enough of it to know it again without keeping it. Knows no topic.

use std::hash::{DefaultHasher, Hash, Hasher};

/// A 64-bit hash of a record's key and value. Its time and headers do not count: Kafka's C client does
/// not tell them of a record that was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordPrint(u64);

impl RecordPrint {
    /// The print of a record. Equal records have equal prints, in this process.
    pub fn of(key: Option<&[u8]>, value: Option<&[u8]>) -> Self {
        let mut hasher = DefaultHasher::new();
        (key, value).hash(&mut hasher);
        Self(hasher.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_that_differ_in_key_or_value_have_different_prints() {
        let print = RecordPrint::of(Some(b"ab"), Some(b"c"));
        assert_eq!(print, RecordPrint::of(Some(b"ab"), Some(b"c")));
        assert_ne!(print, RecordPrint::of(Some(b"a"), Some(b"bc")));
        assert_ne!(print, RecordPrint::of(Some(b"ab"), None));
    }
}
