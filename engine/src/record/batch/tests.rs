//! What a record batch keeps, and what it refuses.

use bytes::Bytes;
use proptest::{collection::vec, option, prelude::*, sample::Index};

use super::*;

#[derive(Clone, Debug, PartialEq)]
struct Owned {
    skipped: u64,
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Owned {
    fn headers(&self) -> Headers {
        let mut headers = Headers::new();
        for (name, value) in &self.headers {
            headers.append(name.as_str(), value.clone().map(Bytes::from));
        }
        headers
    }
}

fn any_record() -> impl Strategy<Value = Owned> {
    let skipped = prop_oneof![3 => Just(0_u64), 1 => 0_u64..1_000_000_000];
    let timestamp = prop_oneof![3 => 0_i64..2_000_000_000_000, 1 => any::<i64>()];
    let header = ("[a-z]{0,8}", option::of(vec(any::<u8>(), 0..8)));
    (
        skipped,
        timestamp,
        option::of(vec(any::<u8>(), 0..20)),
        option::of(vec(any::<u8>(), 0..200)),
        vec(header, 0..3),
    )
        .prop_map(|(skipped, timestamp, key, value, headers)| Owned {
            skipped,
            timestamp,
            key,
            value,
            headers,
        })
}

fn built(records: &[Owned]) -> RecordBatchBuilder {
    let mut builder = RecordBatchBuilder::new();
    for record in records {
        let delta = builder.span() + record.skipped;
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        builder
            .append_at(delta, record.timestamp, key, value, &record.headers())
            .expect("in order and within the limits");
    }
    builder
}

/// Walks bytes of any kind to the end or the first error, headers included.
fn walk(bytes: Bytes) -> Result<u32, BatchError> {
    let mut cursor = RecordBatch::new(0, bytes)?.into_cursor();
    let mut count = 0;
    while let Some(record) = cursor.next()? {
        record.headers.decode()?;
        count += 1;
    }
    Ok(count)
}

#[test]
fn a_batch_without_records_is_empty_and_takes_no_offset() {
    let builder = RecordBatchBuilder::new();
    assert!(builder.is_empty());
    assert_eq!(builder.max_timestamp(), None);
    let batch = RecordBatch::new(7, builder.finish()).expect("valid");
    assert_eq!(batch.next_offset(), 7);
    assert_eq!(batch.max_timestamp(), None);
    assert_eq!(batch.records().next(), None);
}

#[test]
fn null_and_empty_keys_and_values_stay_apart() {
    let mut builder = RecordBatchBuilder::new();
    builder.append(1, None, Some(b""), Headers::empty()).expect("fits");
    builder.append(2, Some(b""), None, Headers::empty()).expect("fits");
    let mut cursor = RecordBatch::new(0, builder.finish()).expect("valid").into_cursor();
    let first = cursor.next().expect("valid").expect("there");
    assert_eq!((first.key, first.value), (None, Some(&b""[..])));
    let second = cursor.next().expect("valid").expect("there");
    assert_eq!((second.key, second.value), (Some(&b""[..]), None));
}

#[test]
fn the_bytes_of_version_one_do_not_change() {
    let mut builder = RecordBatchBuilder::new();
    let mut headers = Headers::new();
    headers.append("h", None);
    builder.append(3, Some(b"k"), None, Headers::empty()).expect("fits");
    builder.append_at(4, 2, None, Some(b"v"), &headers).expect("fits");
    let expected = [
        &[1][..],
        &[0, 0, 0, 2],
        &[0, 0, 0, 0, 0, 0, 0, 5],
        &[0, 0, 0, 0, 0, 0, 0, 3],
        &[5, 0, 6, 2, b'k', 0],
        &[9, 3, 1, 0, 2, b'v', 1, 1, b'h', 0],
    ]
    .concat();
    assert_eq!(builder.finish(), expected);
}

#[test]
fn an_offset_at_or_before_the_last_record_is_refused() {
    let mut builder = RecordBatchBuilder::new();
    builder.append_at(5, 0, None, None, Headers::empty()).expect("fits");
    assert_eq!(
        builder.append_at(5, 0, None, None, Headers::empty()),
        Err(BatchError::OffsetOrder { delta: 5, expected: 6 })
    );
    assert_eq!(builder.count(), 1);
}

#[test]
fn headers_over_a_limit_leave_the_batch_as_it_was() {
    let mut builder = RecordBatchBuilder::new();
    builder.append(0, None, None, Headers::empty()).expect("fits");
    let before = builder.len();
    let mut headers = Headers::new();
    headers.append("n".repeat(40_000), None);
    assert!(matches!(builder.append(1, None, None, &headers), Err(BatchError::Headers(_))));
    assert_eq!((builder.len(), builder.count(), builder.span()), (before, 1, 1));
    assert_eq!(walk(builder.finish()), Ok(1));
}

#[test]
fn a_batch_that_would_pass_the_largest_offset_is_refused() {
    let mut builder = RecordBatchBuilder::new();
    builder.append(0, None, None, Headers::empty()).expect("fits");
    let bytes = builder.finish();
    assert!(RecordBatch::new(i64::MAX - 1, bytes.clone()).is_ok());
    assert!(RecordBatch::new(i64::MAX, bytes.clone()).is_err());
    assert!(RecordBatch::new(-1, bytes).is_err());
}

#[test]
fn an_unknown_version_is_named() {
    assert_eq!(
        RecordBatch::new(0, Bytes::from_static(&[9; 40])),
        Err(BatchError::Version { version: 9 })
    );
}

#[test]
fn a_cursor_stays_at_the_damage_and_records_end_there() {
    let mut builder = RecordBatchBuilder::new();
    builder.append(0, Some(b"a"), Some(b"b"), Headers::empty()).expect("fits");
    builder.append(0, Some(b"a"), Some(b"b"), Headers::empty()).expect("fits");
    let whole = builder.finish();
    let cut = whole.slice(..whole.len() - 1);
    let batch = RecordBatch::new(0, cut).expect("the fixed part is whole");
    let damage = BatchError::Malformed { field: "length", position: 28 };
    assert_eq!(batch.records().count(), 2);
    let mut cursor = batch.into_cursor();
    assert!(matches!(cursor.next(), Ok(Some(_))));
    assert_eq!(cursor.next(), Err(damage.clone()));
    assert_eq!(cursor.next(), Err(damage));
    assert_eq!(cursor.remaining(), 1);
}

proptest! {
    #[test]
    fn all_records_come_back(records in vec(any_record(), 0..20), base in 0_i64..1_000_000) {
        let builder = built(&records);
        let max = records.iter().map(|record| record.timestamp).max();
        prop_assert_eq!(builder.max_timestamp(), max);
        let span = builder.span();
        let batch = RecordBatch::new(base, builder.finish()).expect("valid");
        prop_assert_eq!(batch.max_timestamp(), max);
        prop_assert_eq!(batch.next_offset(), base + i64::try_from(span).expect("small"));
        let mut cursor = batch.clone().into_cursor();
        let mut offset = base;
        for expected in &records {
            offset += i64::try_from(expected.skipped).expect("small");
            let peeked = cursor.peek().expect("valid").expect("there").offset;
            prop_assert_eq!(peeked, offset);
            let record = cursor.next().expect("valid").expect("there");
            prop_assert_eq!(record.offset, offset);
            prop_assert_eq!(record.timestamp, expected.timestamp);
            prop_assert_eq!(record.key, expected.key.as_deref());
            prop_assert_eq!(record.value, expected.value.as_deref());
            prop_assert_eq!(record.headers.decode(), Ok(expected.headers()));
            offset += 1;
        }
        prop_assert_eq!(cursor.next(), Ok(None));
        prop_assert_eq!(batch.records().count(), records.len());
    }

    #[test]
    fn no_bytes_make_the_reader_panic(tail in vec(any::<u8>(), 0..200), fixed: [u8; 20]) {
        let mut bytes = vec![VERSION];
        bytes.extend(fixed);
        bytes[COUNT_AT..COUNT_AT + 3].fill(0);
        bytes.extend(tail);
        // Ends with a count or an error; that it returns at all is the claim.
        drop(walk(Bytes::from(bytes)));
    }

    #[test]
    fn a_flipped_byte_never_yields_more_than_the_count(
        records in vec(any_record(), 1..8), at: Index, flip in 1_u8..=255,
    ) {
        let mut bytes = built(&records).finish().to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        let claimed = Fixed::read(&bytes).map(|fixed| fixed.count);
        if let (Ok(count), Ok(claimed)) = (walk(Bytes::from(bytes)), claimed) {
            prop_assert_eq!(count, claimed);
        }
    }

    #[test]
    fn a_cut_batch_is_refused(records in vec(any_record(), 1..8), at: Index) {
        let bytes = built(&records).finish();
        let cut = bytes.slice(..at.index(bytes.len()));
        prop_assert!(walk(cut).is_err());
    }
}
