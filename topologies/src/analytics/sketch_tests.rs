//! The sketch: the error bound, exact merges, independence of order, encodings.

use proptest::prelude::*;

use super::*;

fn sketch(values: &[f64]) -> Sketch {
    let mut sketch = Sketch::default();
    for value in values {
        sketch.insert(*value).expect("countable");
    }
    sketch
}

fn bytes(sketch: &Sketch) -> Vec<u8> {
    let mut bytes = Vec::new();
    sketch.encode(&mut bytes);
    bytes
}

fn decode(bytes: &[u8]) -> Result<Sketch, DecodeError> {
    let mut reader = Reader::new(bytes);
    let sketch = Sketch::decode(&mut reader)?;
    reader.end().map(|()| sketch)
}

/// A value of either sign and any countable magnitude, zero included.
fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        1 => Just(0.0),
        8 => (-9.0..17.7_f64).prop_map(|exponent| 10_f64.powf(exponent)),
        2 => (-9.0..17.7_f64).prop_map(|exponent| -(10_f64.powf(exponent))),
        2 => 0.0..1_000.0_f64,
    ]
}

fn values() -> impl Strategy<Value = Vec<f64>> {
    prop::collection::vec(value(), 0..200)
}

/// More distinct buckets than one sign keeps.
fn crowded() -> Vec<f64> {
    (INDEX_MIN + 1..=INDEX_MAX).map(boundary).collect()
}

#[test]
fn the_constants_of_the_formula_are_the_documented_ones() {
    assert_eq!(GAMMA.to_bits(), 0x3FF0_52BF_5A81_4AFD);
    assert_eq!(boundary(0).to_bits(), 1.0_f64.to_bits());
    assert_eq!(boundary(1).to_bits(), GAMMA.to_bits());
    assert_eq!(boundary(-1).to_bits(), (1.0 / GAMMA).to_bits());
    assert_eq!(boundary(INDEX_MIN).to_bits(), 0x3E15_E579_4F78_67A3);
    assert_eq!(boundary(INDEX_MAX).to_bits(), 0x43A0_BF73_042C_7B69);
}

#[test]
fn a_boundary_falls_into_the_bucket_it_closes_and_its_successor_into_the_next() {
    for index in [-1_023, -500, -1, 0, 1, 2, 700, 2_046] {
        let at = sketch(&[boundary(index)]);
        assert_eq!(at.positive.0, [(index, 1)]);
        let above = sketch(&[boundary(index).next_up()]);
        assert_eq!(above.positive.0, [(index + 1, 1)]);
    }
}

#[test]
fn tiny_magnitudes_count_as_zero() {
    let sketch = sketch(&[0.0, -0.0, f64::MIN_POSITIVE, boundary(INDEX_MIN), -boundary(INDEX_MIN)]);
    assert_eq!((sketch.zero, sketch.count()), (5, 5));
    assert_eq!(sketch.quantile(500), Some(0.0));
}

#[test]
fn nan_infinities_and_giants_are_refused_and_change_nothing() {
    let mut sketch = sketch(&[1.0]);
    let before = sketch.clone();
    for refused in
        [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, boundary(INDEX_MAX).next_up()]
    {
        assert!(sketch.insert(refused).is_err());
        assert!(sketch.insert(-refused).is_err());
    }
    assert_eq!(sketch, before);
    sketch.insert(boundary(INDEX_MAX)).expect("the largest countable value");
}

#[test]
fn an_empty_sketch_has_no_quantiles() {
    assert_eq!(Sketch::default().quantile(500), None);
    assert_eq!(Sketch::default().count(), 0);
}

#[test]
fn quantiles_run_from_the_most_negative_to_the_largest() {
    let sketch = sketch(&[-100.0, -1.0, 0.0, 1.0, 100.0]);
    let quantiles = [0, 250, 500, 750, 1_000].map(|m| sketch.quantile(m).expect("counted"));
    for (quantile, exact) in quantiles.into_iter().zip([-100.0, -1.0, 0.0, 1.0, 100.0_f64]) {
        assert!((quantile - exact).abs() <= 0.010_000_01 * exact.abs(), "{quantile} for {exact}");
    }
}

#[test]
fn a_crowded_sketch_keeps_the_largest_buckets_and_every_count() {
    let sketch = sketch(&crowded());
    assert_eq!(sketch.positive.0.len(), BUCKETS_MAX);
    assert_eq!(sketch.count(), 3_071);
    let lowest = INDEX_MAX - 1_023;
    assert_eq!(sketch.positive.0[0], (lowest, 3_071 - 1_023));
    assert!(sketch.positive.0[1..].iter().all(|bucket| bucket.1 == 1));
}

#[test]
fn a_crowded_sketch_is_the_same_whatever_the_order_and_however_merged() {
    let ascending = crowded();
    let descending: Vec<f64> = ascending.iter().rev().copied().collect();
    let all = sketch(&ascending);
    assert_eq!(all, sketch(&descending));
    let (low, high) = ascending.split_at(1_700);
    for (left, right) in [(low, high), (high, low)] {
        let mut merged = sketch(left);
        merged.merge(&sketch(right));
        assert_eq!(merged, all);
    }
}

#[test]
fn the_json_form_is_compact_and_stable() {
    let sketch = sketch(&[0.0, 1.0, 1.0, 50.0, -2.0]);
    let json = serde_json::to_string(&sketch).expect("json");
    assert_eq!(json, r#"{"zero":1,"positive":[[0,2],[196,1]],"negative":[[35,1]]}"#);
    assert_eq!(serde_json::from_str::<Sketch>(&json).expect("a sketch"), sketch);
}

#[test]
fn documents_that_are_no_sketch_are_refused() {
    for json in [
        r#"{"zero":0,"positive":[[1,1],[1,1]],"negative":[]}"#,
        r#"{"zero":0,"positive":[[2,1],[1,1]],"negative":[]}"#,
        r#"{"zero":0,"positive":[[1,0]],"negative":[]}"#,
        r#"{"zero":0,"positive":[],"negative":[[-1024,1]]}"#,
        r#"{"zero":0,"positive":[[2048,1]],"negative":[]}"#,
        r#"{"zero":1,"positive":[[1,18446744073709551615]],"negative":[]}"#,
    ] {
        assert!(serde_json::from_str::<Sketch>(json).is_err(), "{json}");
    }
}

proptest! {
    #[test]
    fn every_quantile_is_within_one_percent(mut values in values(), thousandths in 0_u32..=1_000) {
        prop_assume!(!values.is_empty());
        let quantile = sketch(&values).quantile(thousandths).expect("counted");
        values.sort_by(f64::total_cmp);
        let rank = (values.len() - 1) * usize::try_from(thousandths).expect("small") / 1_000;
        let exact = values[rank];
        let bound = (exact.abs() * 0.010_000_000_1).max(1.3e-9);
        prop_assert!((quantile - exact).abs() <= bound, "{quantile} for {exact}");
    }

    #[test]
    fn the_order_of_values_does_not_matter(values in values(), seed in any::<u64>()) {
        let mut shuffled = values.clone();
        let length = shuffled.len();
        for position in 0..length {
            let other = usize::try_from(seed % 1_000_003).expect("small") * (position + 7) % length;
            shuffled.swap(position, other);
        }
        prop_assert_eq!(bytes(&sketch(&values)), bytes(&sketch(&shuffled)));
    }

    #[test]
    fn a_merge_is_the_sketch_of_all_values(left in values(), right in values()) {
        let mut merged = sketch(&left);
        merged.merge(&sketch(&right));
        prop_assert_eq!(merged, sketch(&[left, right].concat()));
    }

    #[test]
    fn the_binary_form_is_read_back(values in values()) {
        let sketch = sketch(&values);
        prop_assert_eq!(decode(&bytes(&sketch)), Ok(sketch));
    }

    #[test]
    fn arbitrary_bytes_are_a_sketch_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        if let Ok(sketch) = decode(&bytes) {
            prop_assert_eq!(sketch.quantile(500).is_some(), sketch.count() > 0);
        }
    }
}
